"""How far labellers agree with the judge and with each other: Cohen's kappa over pairs of replies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from data_gen.agreement import Agreement, Choice, kappa
from eval.viewer.labels import Label

_OTHER: dict[Choice, Choice] = {"first": "second", "second": "first", "tie": "tie"}


def with_judge(labels: Iterable[Label]) -> Agreement:
    """Of people with the judge, over the pairs that it compared; each labeller's label of a pair counts once."""
    return kappa([(label.label, label.judge_label) for label in labels if label.judge_label is not None])


def between(ones: Iterable[Label], others: Iterable[Label]) -> Agreement:
    """Of two labellers, over the pairs that both labelled."""
    known = {label.pair: label for label in others}
    shared = [(label, known[label.pair]) for label in ones if label.pair in known]
    return kappa(
        [
            (one.label, other.label if other.first == one.first else _OTHER[other.label])  # in the order of `one`
            for one, other in shared
        ]
    )


def report(labels: Sequence[Label]) -> dict[str, Any]:
    """All agreements there are among the last labels: with the judge (all labels, the blind ones alone, and by
    labeller), and between every two labellers who share a pair."""
    by_name: dict[str, list[Label]] = {}
    for label in labels:
        by_name.setdefault(label.labeller, []).append(label)
    pairs = [(one, other, between(by_name[one], by_name[other])) for one, other in combinations(sorted(by_name), 2)]
    return {
        "judge": asdict(with_judge(labels)),
        "blind": asdict(with_judge([label for label in labels if label.blind])),
        "labellers": {name: asdict(with_judge(own)) for name, own in sorted(by_name.items())},
        "between": [{"labellers": [one, other], **asdict(found)} for one, other, found in pairs if found.n],
    }
