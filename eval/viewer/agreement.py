"""The agreement of labellers with the judge and with each other: Cohen's kappa over pairs of replies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import TypedDict

from data_gen.agreement import Agreement, Choice, kappa
from eval.viewer.labels import Label

Figures = dict[str, float | None]  # n, agreement, kappa
_OTHER: dict[Choice, Choice] = {"first": "second", "second": "first", "tie": "tie"}


class AgreementReport(TypedDict):
    """Agreement with the judge of all labels, of the blind ones and by labeller, and that of every two labellers."""

    judge: Figures
    blind: Figures
    labellers: dict[str, Figures]
    between: list[dict[str, object]]


def with_judge(labels: Iterable[Label]) -> Agreement:
    """The agreement of labels with the judge, over the pairs that it compared; each label counts once."""
    return kappa([(label.label, label.judge_label) for label in labels if label.judge_label is not None])


def between(ones: Iterable[Label], others: Iterable[Label]) -> Agreement:
    """The agreement of two labellers, over the pairs that both labelled."""
    known = {label.pair: label for label in others}
    shared = [(label, known[label.pair]) for label in ones if label.pair in known]
    return kappa(
        [
            (one.label, other.label if other.first == one.first else _OTHER[other.label])  # in the order of `one`
            for one, other in shared
        ]
    )


def report(labels: Sequence[Label]) -> AgreementReport:
    """All agreements among the last labels: with the judge, and between every two labellers who share a pair."""
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
