"""Turns of a conversation in losses and metrics.

Two settings. `turn_weights`: the weight of what stands in turn 1, 2, ...; the last one holds for all
later turns; empty: 1 everywhere. `turn_buckets`: for how many turns metrics are told apart; the last one takes in all
later turns; 0: none. The number of buckets is static, so a run has the same metrics at every step.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.types import Metrics


def turn_weight(turn: Int[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """The weight of each turn. Padding has turn 0 and gets that of turn 1; it has weight 0 of its own."""
    weights = jnp.asarray(settings.turn_weights or (1.0,), jnp.float32)
    return weights[jnp.clip(turn - 1, 0, weights.size - 1)]


def by_turn(
    name: str,
    total: Float[Array, "*S"],
    weight: Float[Array, "*S"],
    turn: Int[Array, "*S"],
    settings: ObjectiveSettings,
) -> Metrics:
    """The metric NAME_turn_K for each bucket K, from the terms of its sum and of its weight."""
    buckets = settings.turn_buckets
    bucket = jnp.clip(turn, 1, max(buckets, 1))
    inside = lambda values, number: jnp.sum(jnp.where(bucket == number, values, 0))  # noqa: E731
    numbers = range(1, buckets + 1)
    return {f"{name}_turn_{number}": (inside(total, number), inside(weight, number)) for number in numbers}
