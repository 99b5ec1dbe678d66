"""Turns of a conversation in losses and metrics.

The settings are `turn_weights` and `turn_buckets` (settings.py). The number of buckets is static, so a run has the same
metrics at every step.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.types import Metrics


def turn_weight(turn: Int[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """The weight of each turn. What is no turn, a probe or padding (with weight 0 in all sums), has turn 0 and gets
    the weight 1."""
    weights = jnp.asarray(settings.turn_weights or (1.0,), jnp.float32)
    return jnp.where(turn > 0, weights[jnp.clip(turn - 1, 0, weights.size - 1)], 1.0)


def by_turn(
    name: str,
    total: Float[Array, "*S"],
    weight: Float[Array, "*S"],
    turn: Int[Array, "*S"],
    settings: ObjectiveSettings,
) -> Metrics:
    """The metric NAME_turn_K for each bucket K, from the terms of its sum and its weight. Turn 0 is in no bucket."""
    buckets = settings.turn_buckets
    bucket = jnp.minimum(turn, max(buckets, 1))
    inside = lambda values, number: jnp.sum(jnp.where(bucket == number, values, 0))  # noqa: E731
    numbers = range(1, buckets + 1)
    return {f"{name}_turn_{number}": (inside(total, number), inside(weight, number)) for number in numbers}
