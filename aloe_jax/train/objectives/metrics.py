"""What is told of comparisons between replies, whatever the loss makes of them."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from aloe_jax.train.objectives.turns import by_turn
from aloe_jax.train.objectives.types import Config, Metrics, Replies

# From values of replies [B, R] to those of the chosen and of the rejected one of each comparison [*S].
Pick = Callable[[Array], tuple[Array, Array]]


def comparison_metrics(
    replies: Replies,
    rewards: Float[Array, "B R"],
    pick: Pick,
    weight: Float[Array, "*S"],
    config: Config,
    needs_reference: bool,
) -> Metrics:
    """Means over comparisons, as (sum, weight).

    `accuracy` and `reward_margin` (also by turn), `reward_*`, `log_prob_*`, with a reference `log_prob_drift_*` (policy
    minus reference), and `entropy`, the mean over the tokens of both replies, if it was computed. Turn weights and
    margins of the loss play no part, so that figures of different runs compare.
    """
    chosen, rejected = pick(rewards)
    margin = chosen - rejected
    turn, _ = pick(replies.turn)
    terms = {"accuracy": weight * (margin > 0), "reward_margin": weight * margin}
    metrics = {name: (total.sum(), weight.sum()) for name, total in terms.items()}
    columns = {"reward": rewards, "log_prob": replies.log_prob}
    if needs_reference:
        columns["log_prob_drift"] = replies.log_prob - replies.reference
    for name, values in columns.items():
        for side, value in zip(("chosen", "rejected"), pick(values), strict=True):
            metrics[f"{name}_{side}"] = (jnp.sum(weight * value), weight.sum())
    if replies.entropy is not None:
        entropy, length = (jnp.sum(weight * sum(pick(values))) for values in (replies.entropy, replies.length))
        metrics["entropy"] = (entropy, length)
    for name, total in terms.items():
        metrics |= by_turn(name, total, weight, turn, config)
    return metrics
