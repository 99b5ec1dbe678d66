"""Tolerances between two programs that compute the same log-probabilities.

The reference pass and the training step are compiled differently, and another mesh sums in another order. In f32 the
difference is far below what the checks allow; in bfloat16 it is not, so there the tolerance is derived from the
arithmetic.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from aloe_jax.data.pipeline import Batches
from aloe_jax.ops.log_probs import TargetScores
from aloe_jax.train.forward import DTYPES, gather_replies
from aloe_jax.train.objectives import objective_of
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.tree.pack import stack
from aloe_jax.tree.row import TreeRow

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


def expected_first_loss(settings: ObjectiveSettings, batches: Batches) -> float | None:
    """The loss of the first step, in which the policy equals its reference; None where it is not known in advance.

    An objective of single tokens has the loss of the first batch, such as the variance of its values. Every process
    reads all rows of the step, so all compute the same one.
    """
    objective = objective_of(settings)
    if not objective.by_token:
        return objective.first_loss(settings)
    return loss_of_old_policy(settings, _first_rows(batches))


def loss_of_old_policy(settings: ObjectiveSettings, rows: TreeRow) -> float:
    """The loss of the policy whose log-probabilities `rows` [B, ...] have as those of the old one."""
    return float(_loss(settings, rows, np.zeros(rows.length.shape)))


def loss_tolerance(settings: ObjectiveSettings, batches: Batches, dtype: str, layers: int, expected: float) -> float:
    """Allowed difference of the first step's loss from `expected`, the loss of a policy that equals its reference.

    In f32 it is 1e-5; else, and where advantages weigh the replies, the change of the loss if the log-probabilities of
    all chosen replies are off by their tolerance and those of the rejected ones by theirs in the other direction. Every
    process computes the same value.
    """
    strict, by_token = LOSS * max(1.0, abs(expected)), objective_of(settings).by_token
    if dtype == "float32" and not by_token:
        return strict
    return max(strict, rounded_loss(settings, _first_rows(batches), dtype, layers, expected))


def rounded_loss(settings: ObjectiveSettings, rows: TreeRow, dtype: str, layers: int, expected: float) -> float:
    """The change of the loss of `rows` from `expected` if the log-probabilities of chosen replies, or of those whose
    growth raises an objective of single tokens, are off by their tolerance and the others by theirs in the other
    direction."""
    side: ArrayLike = rows.label
    if objective_of(settings).by_token:
        side = np.sign(jax.grad(lambda off: _loss(settings, rows, off))(jnp.zeros(rows.length.shape)))
    off = side * reply_tolerance(dtype, layers, rows.length)
    return max(abs(float(_loss(settings, rows, sign * off)) - expected) for sign in (1, -1))


def _first_rows(batches: Batches) -> TreeRow:
    """The rows of the first step. Objectives of whole replies depend on the difference from the reference alone, so
    that both may be 0."""
    rows = stack([batches.row(0, number) for number in range(len(batches.plan.steps[0]))])
    return rows.replace(reference=np.zeros_like(rows.reference))


def _loss(settings: ObjectiveSettings, row: TreeRow, off: Float[ArrayLike, "B R"]) -> jax.Array:
    """The loss if the log-probability of each reply is off that of the old policy by that much, shared by its
    tokens."""
    share = jnp.pad(off / np.maximum(row.length, 1), [(0, 0), (0, 1)])  # padding's reply comes after the last one
    log_prob = row.old_log_prob + jnp.take_along_axis(share, jnp.asarray(row.reply), axis=1)
    replies, pairs = gather_replies(TargetScores(jnp.asarray(log_prob, jnp.float32), None), row)
    total, weight, _ = objective_of(settings)(replies, pairs, settings)
    return total / weight
