"""Log-probabilities of the listed targets, without logits for every token.

Only the states that predict a target go through the output head, one chunk at a time, so that neither [B, T, V] nor
[B, M, V] logits ever exist; the backward pass recomputes the logits of a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aloe_jax.ops.attention import cap

CHUNK = 256


class TargetScores(NamedTuple):
    """The natural log-probability of each target, and the entropy in nats of the distribution that predicted it (no
    gradient flows through it; None unless requested)."""

    log_prob: Float[Array, "B M"]
    entropy: Float[Array, "B M"] | None


def target_log_probs(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    source: Int[Array, "B M"],
    target: Int[Array, "B M"],
    chunk: int = CHUNK,
    soft_cap: float | None = None,
    entropy: bool = False,
) -> TargetScores:
    """The scores (f32) of each token in `target`, predicted by the state at `source` of the same row.

    M need not be a multiple of `chunk`. `soft_cap` c turns logits x into c tanh(x / c) (Gemma 2). Padding targets
    have scores too; the caller gives them weight 0.
    """
    rows, count = source.shape
    chunk = min(chunk, count)
    padding = -count % chunk
    pad = lambda array: jnp.pad(array, ((0, 0), (0, padding))).reshape(rows, -1, chunk).swapaxes(0, 1)  # noqa: E731

    @jax.checkpoint
    def body(carry: None, part: tuple[Array, Array]) -> tuple[None, TargetScores]:
        part_source, part_target = part
        states = jnp.take_along_axis(hidden, part_source[..., None], axis=1)
        # The cast is inside the loop, so that the head's gradient is summed over chunks in the head's own f32.
        weight = head.astype(hidden.dtype)
        logits = jnp.einsum("bmd,dv->bmv", states, weight, preferred_element_type=jnp.float32)
        logits = cap(logits, soft_cap)
        chosen = jnp.take_along_axis(logits, part_target[..., None], axis=-1)[..., 0]
        log_prob = chosen - jax.nn.logsumexp(logits, axis=-1)
        return carry, TargetScores(log_prob, _entropy(jax.lax.stop_gradient(logits)) if entropy else None)

    _, parts = jax.lax.scan(body, None, (pad(source), pad(target)))
    return jax.tree.map(lambda array: array.swapaxes(0, 1).reshape(rows, -1)[:, :count], parts)


def _entropy(logits: Float[Array, "B m V"]) -> Float[Array, "B m"]:
    """Entropy of softmax(logits). With y = x - max x it is log sum e^y - sum y e^y / sum e^y: two non-negative terms,
    hence no cancellation, and both sums take one pass over the logits."""
    below = logits - logits.max(axis=-1, keepdims=True)
    mass = jnp.exp(below)
    total = mass.sum(axis=-1)
    return jnp.log(total) - (mass * below).sum(axis=-1) / total
