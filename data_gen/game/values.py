"""The value of a reply, backed up from its simulated future, and preferences by value.

As in CollabLLM (arXiv 2502.00640) the value of a reply counts what becomes of the conversation after it, not only its
own score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aloe_jax.tree.schema import Node, Preference

TEMPERATURE = 0.5  # points of value; a lead of one point is preferred with probability 0.88


def backed_up(nodes: Sequence[Node], discount: float) -> tuple[Node, ...]:
    """Nodes whose replies have their backed-up value.

    With the judge's score s(r) and the replies C(r) one turn later below r,

        value(r) = N(r) / D(r),   N(r) = s(r) + discount * mean N(c),   D(r) = 1 + discount * mean D(c)

    over c in C(r): an average of the scores of r and of its future, weighted down by `discount` per turn. A reply
    without a future keeps its score. Unscored replies do not count.
    """
    children: dict[str, list[Node]] = {}
    for node in nodes:
        if node.parent is not None:
            children.setdefault(node.parent, []).append(node)
    sums: dict[str, tuple[float, float]] = {}
    for node in reversed(nodes):  # children come after their parents
        if node.role != "assistant":
            continue
        below = [
            sums[reply.id]
            for user in children.get(node.id, ())
            for reply in children.get(user.id, ())
            if sums[reply.id][1]
        ]
        score, weight = (0.0, 0.0) if node.value is None else (node.value, 1.0)
        if below:
            score += discount * sum(each[0] for each in below) / len(below)
            weight += discount * sum(each[1] for each in below) / len(below)
        sums[node.id] = (score, weight)
    return tuple(
        node.model_copy(update={"value": sums[node.id][0] / sums[node.id][1]})
        if node.role == "assistant" and sums[node.id][1]
        else node
        for node in nodes
    )


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
