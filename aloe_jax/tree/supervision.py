"""The training signal of a conversation, from its preferences and its replies' labels: SFT weights, labels, values,
advantages and pairs of replies."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation


@dataclass(frozen=True)
class Supervision:
    """SFT weights, labels, values and advantages by node index, and (chosen, rejected) pairs of node indices with their
    margin."""

    weights: Sequence[float]
    labels: Sequence[float]
    values: Sequence[float]
    advantages: Sequence[float]
    pairs: Mapping[tuple[int, int], float]


def supervision(tree: Conversation, weights: Mapping[str, float] | None = None) -> Supervision:
    """The training signal of `tree`: weights, labels, values, advantages and pairs of its replies.

    Args:
        weights: SFT weight by node id, 0 for nodes not named. By default a reply has weight 1 if the conversation has
            no preferences and no labels, else 1 where it is labelled good, which without a label of its own it is if
            it is chosen in a pair and rejected in none; the answer of a probe always has weight 1. A node flagged
            `no_loss` has weight 0, no label, value or
            advantage and takes part in no pair, whatever is given.

    Raises InputError for weights that name a node which the conversation does not have.
    """
    index = {node.id: position for position, node in enumerate(tree.nodes)}
    muted = {position for position, node in enumerate(tree.nodes) if "no_loss" in node.flags}
    # Several judges may name one pair; it is still one comparison, with their mean margin.
    margins: dict[tuple[int, int], list[float]] = {}
    for preference in tree.preferences:
        if preference.margin > 0:
            margins.setdefault((index[preference.chosen], index[preference.rejected]), []).append(preference.margin)
    pairs = {pair: fmean(found) for pair, found in margins.items()}
    chosen, rejected = ({pair[side] for pair in pairs} - muted for side in (0, 1))
    labels = [float(node in chosen - rejected) - float(node in rejected - chosen) for node in range(len(tree.nodes))]
    said = {position: node.label for position, node in enumerate(tree.nodes) if node.label is not None}
    for position, good in said.items():
        labels[position] = 0.0 if position in muted else 1.0 if good else -1.0
    if weights is not None:
        unknown = next((name for name in weights if name not in index), None)
        if unknown is not None:
            raise InputError(f"conversation '{tree.id}': weights name unknown node '{unknown}'")
        trained = [weights.get(node.id, 0.0) for node in tree.nodes]
    elif tree.preferences or said:
        trained = [float(label > 0 or node.is_probe) for label, node in zip(labels, tree.nodes, strict=True)]
    else:
        trained = [1.0] * len(tree.nodes)
    return Supervision(
        weights=[0.0 if node in muted else weight for node, weight in enumerate(trained)],
        labels=labels,
        values=_unmuted([node.value for node in tree.nodes], muted),
        advantages=_unmuted([node.advantage for node in tree.nodes], muted),
        pairs={pair: margin for pair, margin in pairs.items() if muted.isdisjoint(pair)},
    )


def _unmuted(values: Sequence[float | None], muted: Collection[int]) -> list[float]:
    """The values by node index; NaN where there is none and for muted nodes."""
    return [math.nan if node in muted or value is None else value for node, value in enumerate(values)]
