"""The value of a reply, backed up from its simulated future, and preferences by value.

As in CollabLLM (arXiv 2502.00640) the value of a reply counts what becomes of the conversation after it, not only its
own score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aloe_jax.tree.schema import Node, Preference

TEMPERATURE = 0.5  # points of value; a lead of one point is preferred with probability 0.88


def backed_up(nodes: Sequence[Node], discount: float, depth: int = 1) -> tuple[Node, ...]:
    """Nodes whose replies have their backed-up value, over at most `depth` turns of their future.

    With the judge's score s(r) and the replies C(r) one turn later below r,

        value(r) = N_h(r) / D_h(r)
        N_h(r) = s(r) + discount * mean N_(h-1)(c),   D_h(r) = 1 + discount * mean D_(h-1)(c)

    over c in C(r), without the second terms for h = 0: an average of the scores of r and of its next h turns, weighted
    down by `discount` per turn. A reply without a future keeps its score. Unscored replies do not count.

    Siblings are compared, so those with a future have one horizon h: `depth`, or as far as all of them were continued.
    The main path goes on to the end of the dialogue and the others for `depth` turns; where scores rise with the turns,
    a longer horizon alone would make it the better one.
    """
    below: dict[str, list[Node]] = {}  # the replies one turn later, by reply
    askers = {node.id: node.parent for node in nodes if node.role == "user"}
    for node in nodes:
        if node.role == "assistant" and node.parent is not None and (before := askers.get(node.parent)) is not None:
            below.setdefault(before, []).append(node)
    sums: dict[str, list[tuple[float, float]]] = {}  # (N, D) by reply, for each horizon up to its own future
    for node in reversed(nodes):  # children come after their parents
        if node.role == "assistant":
            sums[node.id] = _by_horizon(node, [sums[reply.id] for reply in below.get(node.id, ())], discount, depth)
    horizon: dict[str | None, int] = {}  # by message that siblings answer
    for node in nodes:
        if node.role == "assistant" and (future := len(sums[node.id]) - 1):
            horizon[node.parent] = min(future, horizon.get(node.parent, future))

    def valued(node: Node) -> Node:
        found = sums[node.id]
        score, weight = found[min(len(found) - 1, horizon.get(node.parent, 0))]
        return node.model_copy(update={"value": score / weight}) if weight else node

    return tuple(valued(node) if node.role == "assistant" else node for node in nodes)


def _by_horizon(
    node: Node, below: Sequence[list[tuple[float, float]]], discount: float, depth: int
) -> list[tuple[float, float]]:
    """(N_h, D_h) of a reply for h = 0, 1, ..., as far as its future goes, at most `depth`. `below` are those of the
    replies one turn later; one that ends before h - 1 counts as far as it goes."""
    own = (0.0, 0.0) if node.value is None else (node.value, 1.0)
    found = [own]
    for turns in range(min(depth, max(map(len, below), default=0))):
        parts = [each[min(turns, len(each) - 1)] for each in below]
        parts = [part for part in parts if part[1]]
        means = [sum(part[side] for part in parts) / len(parts) if parts else 0.0 for side in (0, 1)]
        found.append((own[0] + discount * means[0], own[1] + discount * means[1]))
    return found


def preferred_by_value(nodes: Sequence[Node], min_margin: float, judge: str) -> tuple[Preference, ...]:
    """A preference for every two siblings that differ, both with a future or both without, whose margin 2p - 1 is at
    least `min_margin`: p is the logistic function of the difference of their values over `TEMPERATURE`."""
    futures = {node.parent for node in nodes if node.role == "user"}
    found = []
    for first, second in pairs([node for node in nodes if node.role == "assistant"]):
        alike = (first.id in futures) == (second.id in futures)
        if first.value is None or second.value is None or not alike:
            continue
        margin = math.tanh((first.value - second.value) / (2 * TEMPERATURE))
        found += preference(first, second, margin, min_margin, judge)
    return tuple(found)


def pairs(replies: Sequence[Node]) -> list[tuple[Node, Node]]:
    """Every two siblings that are not empty and differ."""
    usable = [reply for reply in replies if "empty" not in reply.flags]
    return [
        (first, second)
        for index, first in enumerate(usable)
        for second in usable[index + 1 :]
        if first.parent == second.parent and first.text != second.text
    ]


def preference(first: Node, second: Node, margin: float, min_margin: float, judge: str) -> list[Preference]:
    """The preference for the first reply by `margin`, or for the second if it is negative; none if it is 0 or smaller
    than `min_margin` in size."""
    if not margin or abs(margin) < min_margin:
        return []
    chosen, rejected = (first, second) if margin > 0 else (second, first)
    return [Preference(chosen=chosen.id, rejected=rejected.id, margin=abs(margin), judge=judge)]
