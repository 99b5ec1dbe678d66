"""Metrics of replies and of comparisons between them, independent of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.turns import by_turn
from aloe_jax.train.objectives.types import Metrics, Replies

# Values of replies [B, R] -> values of the chosen and of the rejected reply of each comparison [*S].
Pick = Callable[[Array], tuple[Array, Array]]


def comparison_metrics(
    replies: Replies,
    rewards: Float[Array, "B R"],
    pick: Pick,
    weight: Float[Array, "*S"],
    settings: ObjectiveSettings,
    needs_reference: bool,
) -> Metrics:
    """Means over comparisons, as (sum, weight), each also by turn.

    `accuracy`, `reward_margin`, `reward_*`, `log_prob_*`, with a reference `log_prob_drift_*` (policy minus reference),
    and `entropy`, the mean over the tokens of both replies, if it was computed. Turn weights and margins of the loss do
    not enter, so that metrics of different runs are comparable.
    """
    chosen, rejected = pick(rewards)
    margin = chosen - rejected
    turn, _ = pick(replies.turn)
    right = (margin > 0) + 0.5 * (margin == 0)  # a tie counts half, as an untrained policy has nothing but ties
    terms = {"accuracy": (weight * right, weight), "reward_margin": (weight * margin, weight)}
    columns = {"reward": rewards, "log_prob": replies.log_prob}
    if needs_reference:
        columns["log_prob_drift"] = replies.log_prob - replies.reference
    for name, values in columns.items():
        for side, value in zip(("chosen", "rejected"), pick(values), strict=True):
            terms[f"{name}_{side}"] = (weight * value, weight)
    if replies.entropy is not None:
        terms["entropy"] = (weight * sum(pick(replies.entropy)), weight * sum(pick(replies.length)))
    return summed(terms, turn, settings)


def largest_of_groups(values: Float[Array, "B R"], group: Int[Array, "B R"]) -> Float[Array, "B R"]:
    """The largest value, at least 0, of the replies of each group, by the group's number."""
    count = values.shape[-1]
    return jax.vmap(lambda row, number: jnp.zeros(count).at[number].max(row))(values, group)


def summed(terms: Mapping[str, tuple[Array, Array]], turn: Array, settings: ObjectiveSettings) -> Metrics:
    """The sums of terms and of their weights, over all turns and by turn."""
    metrics = {name: (total.sum(), count.sum()) for name, (total, count) in terms.items()}
    for name, (total, count) in terms.items():
        metrics |= by_turn(name, total, count, turn, settings)
    return metrics
