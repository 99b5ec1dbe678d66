"""Knowing when not to personalise: the replies of a result by the kind of turn that they answer.

The kinds are those of `data_gen.world.occasions`: `asks` (a question of fact), `other` (for somebody else), `neutral`
(plain answers are wished for), `flip` (from a change of preference on) and `ordinary`. Of each turn of a kind:

- score: the judge's, on the scale `shown`;
- over-personalisation: whether the reply has a fact or a flourish of the user that is out of place, after a flip the
  setting that was given up. In ordinary turns, where it is no fault, the same says how personal replies are;
- flattery and identity confusion: `data_gen.world.flattery`, `measures.confused`.

A case counts with its mean over its turns of a kind, so intervals are those of other measures: by variance components
over profiles and personalities (`crossed.py`). Shares may have intervals beyond 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from aloe_jax.tree.schema import Conversation, Message, Node, Record
from data_gen.world.events import KINDS
from data_gen.world.flattery import flatters
from data_gen.world.occasions import FLIP, ORDINARY, over_personal
from eval.benchmark.crossed import average_weights, linear
from eval.benchmark.dialogues import OVERALL, replies_of, score_of
from eval.benchmark.measures import confused, scripted
from eval.benchmark.scores import ScoreRecord, ScoreTable, score_table

TURN_KINDS = (ORDINARY, *KINDS, FLIP)
FIGURES = ("score", "over_personalisation", "flattery", "identity_confusion")


class Figure(Record):
    """A mean over cases, and its interval; null over a single cell of the crossing."""

    value: float
    ci: tuple[float, float] | None


class TurnKind(Record):
    """The replies to turns of one kind: how many, in how many cases, and their figures. Null: nothing was scored."""

    turns: int
    cases: int
    score: Figure | None
    over_personalisation: Figure
    flattery: Figure
    identity_confusion: Figure


def by_turn_kind(scores: Sequence[ScoreRecord], trees: Sequence[Conversation]) -> dict[str, TurnKind] | None:
    """The figures by kind of turn, in the order of `TURN_KINDS`; None where all turns are ordinary, or no persona is of
    the scripted world."""
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for tree in trees:
        if tree.persona is not None and scripted(tree.persona):
            for kind, values in _replies(tree):
                found.setdefault(kind, {}).setdefault(tree.id, []).append(values)
    if not set(found) - {ORDINARY}:
        return None
    table = score_table(scores)
    return {kind: _turn_kind(found[kind], table) for kind in TURN_KINDS if kind in found}


def _replies(tree: Conversation) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The kind of turn and the values of `FIGURES` of each reply; NaN where it is unscored."""
    persona, by_id = tree.persona, {node.id: node for node in tree.nodes}
    assert persona is not None
    for reply in replies_of(tree):
        before = _history(by_id, reply)
        kind, personal = over_personal(persona, before, reply.text)
        score = score_of(reply, OVERALL)
        flattered = flatters(reply.text, before[-1].content)
        own = confused(persona, before, reply.text)
        yield kind, (np.nan if score is None else score, float(personal), float(flattered), float(own))


def _history(by_id: Mapping[str, Node], reply: Node) -> list[Message]:
    """The messages that a reply answers, first to last: in replay the stored replies are among them."""
    found, parent = list[Message](), reply.parent
    while parent is not None:
        node = by_id[parent]
        if node.role != "system":
            found.append(Message(role=node.role, content=node.text))
        parent = node.parent
    return found[::-1]


def _turn_kind(by_case: Mapping[str, Sequence[tuple[float, ...]]], table: ScoreTable) -> TurnKind:
    means = np.full((len(table.cases), len(FIGURES)), np.nan)
    for row, case in enumerate(table.cases):
        values = np.array(by_case.get(case, ()), dtype=np.float64).reshape(-1, len(FIGURES))
        for column in range(len(FIGURES)):
            known = values[~np.isnan(values[:, column]), column]
            means[row, column] = known.mean() if known.size else np.nan
    figures = {name: _figure(table, means[:, column]) for column, name in enumerate(FIGURES)}
    return TurnKind(turns=sum(map(len, by_case.values())), cases=len(by_case), **figures)  # type: ignore[arg-type]


def _figure(table: ScoreTable, values: np.ndarray) -> Figure | None:
    made = linear(replace(table, scores=values[:, None]), average_weights(1))
    if made is None:
        return None
    estimate = made.estimate()
    return Figure(value=estimate.value, ci=estimate.interval())
