"""Tolerances between two programs that compute the same log-probabilities.

The reference pass and the training step are compiled differently, and another mesh sums in another order. In f32 the
difference is far below what the checks allow; in bfloat16 it is not, so there the tolerance is derived from the
arithmetic.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from aloe_jax.data.pipeline import Batches
from aloe_jax.train.forward import DTYPES
from aloe_jax.train.objectives import Pairs, Replies, objective_of
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.tree.pack import stack

REPLY = 1e-3  # natural log-probability of a whole reply, in f32
LOSS = 1e-5  # absolute, of a loss around 1; relative for larger ones, in f32
DEVIATIONS = 4.0  # standard deviations: one reply in 16,000 differs by more


def reply_tolerance(dtype: str, layers: int, length: ArrayLike) -> Float[np.ndarray, "*B"]:
    """Allowed difference of the log-probabilities of replies of `length` tokens.

    A layer rounds a dozen times to `dtype` (norms, projections, rotation, attention, gates, sums), each time by at most
    epsilon / 2 of the state's size and independently, so errors grow with the square root of their number (Higham and
    Mary 2019): to epsilon / 2 x sqrt(12 x layers). Two programs that round differently differ by sqrt(2) times that,
    and a token's log-probability by about as many nats: a layer's output is smaller than the state by about the factor
    by which logits spread over more than 1. A reply sums `length` of them.
    """
    epsilon = float(jnp.finfo(DTYPES[dtype]).eps)
    return np.maximum(REPLY, DEVIATIONS * epsilon * np.sqrt(6 * layers * np.asarray(length)))


def loss_tolerance(settings: ObjectiveSettings, batches: Batches, dtype: str, layers: int, expected: float) -> float:
    """Allowed difference of the first step's loss from `expected`, the loss of a policy that equals its reference.

    In f32 it is 1e-5; else the change of the loss if the log-probabilities of all chosen replies are off by their
    tolerance and those of the rejected ones by theirs in the other direction. Every process reads all rows of the step,
    so all compute the same value.
    """
    strict = LOSS * max(1.0, expected)
    if dtype == "float32":
        return strict
    row = stack([batches.row(0, number) for number in range(len(batches.plan.steps[0]))])
    off = row.label * reply_tolerance(dtype, layers, row.length)

    def loss(log_prob: np.ndarray) -> float:
        columns = ("reference", "length", "turn", "group", "label", "value")
        values = {name: jnp.asarray(getattr(row, name)) for name in columns}
        array = jnp.asarray(log_prob)
        replies = Replies(log_prob=array, weighted_log_prob=array, weight=jnp.ones_like(array), entropy=None, **values)
        pairs = Pairs(*(jnp.asarray(part) for part in (row.pairs, row.pair_weight, row.pair_margin)))
        total, weight, _ = objective_of(settings)(replies, pairs, settings)
        return float(total / weight)

    return max(strict, *(abs(loss(row.reference + sign * off) - expected) for sign in (1, -1)))
