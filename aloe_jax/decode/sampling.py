"""Drawing the next token: temperature, top-k and top-p, exactly and without a sort.

Both filters keep the tokens whose probability is at least some threshold: top-k the largest threshold that at least k
tokens reach, top-p the largest at which the kept probabilities sum to at least p. Non-negative floats are ordered as
their bit patterns are, so the threshold is found by bisection over 31 bits, each a masked sum over the vocabulary.
Tokens tied with the last one kept are kept too.

Axes: S slots, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

FLOAT_BITS = 31  # of a non-negative f32, without its sign


def sample(
    logits: Float[Array, "S V"],
    keys: Key[Array, S],
    temperature: Float[Array, S],
    top_p: Float[Array, S],
    top_k: Int[Array, S],
    vocab: int | None = None,
) -> tuple[Int[Array, S], Float[Array, S]]:
    """A token for each slot and its natural log-probability under the unfiltered model at temperature 1.

    temperature 0 takes the most probable token; top_p 1.0 and top_k 0 keep everything. Only ids below `vocab` are
    drawn: output heads are padded beyond the tokenizer's vocabulary, and such an id has no text.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    drawable = log_probs if vocab is None else log_probs.at[:, vocab:].set(-jnp.inf)
    greedy = jnp.argmax(drawable, axis=-1)
    scaled = drawable / jnp.maximum(temperature, 1e-6)[:, None]
    filtering = jnp.any(((top_p < 1.0) | (top_k > 0)) & (temperature > 0))
    scaled = jax.lax.cond(filtering, lambda: _filter(scaled, top_p, top_k), lambda: scaled)
    drawn = jax.vmap(jax.random.categorical)(keys, scaled)
    token = jnp.where(temperature > 0, drawn, greedy)
    return token, jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0]


def _filter(scaled: Float[Array, "S V"], top_p: Float[Array, S], top_k: Int[Array, S]) -> Float[Array, "S V"]:
    """Log-probabilities with the tokens outside top-k, and then outside top-p of what is left, at -inf."""
    probs = jax.nn.softmax(scaled, axis=-1)
    by_count = _threshold(lambda kept: jnp.sum(kept, axis=-1) >= top_k, probs)
    probs = jnp.where((top_k > 0)[:, None] & (probs < by_count[:, None]), 0.0, probs)
    wanted = top_p * probs.sum(axis=-1)
    by_mass = _threshold(lambda kept: jnp.sum(jnp.where(kept, probs, 0.0), axis=-1) >= wanted, probs)
    kept = (probs > 0) & ((top_p >= 1.0)[:, None] | (probs >= by_mass[:, None]))
    return jnp.where(kept, scaled, -jnp.inf)


def _threshold(enough: Callable[[Array], Array], probs: Float[Array, "S V"]) -> Float[Array, S]:
    """The largest threshold t for which `enough(probs >= t)` holds; 0 if only that does."""

    def bit(number: Array, found: Int[Array, S]) -> Int[Array, S]:
        trial = found | (1 << (FLOAT_BITS - 1 - number))
        threshold = jax.lax.bitcast_convert_type(trial, jnp.float32)
        holds = enough(probs >= threshold[:, None]) & jnp.isfinite(threshold)
        return jnp.where(holds, trial, found)

    bits = jax.lax.fori_loop(0, FLOAT_BITS, bit, jnp.zeros(probs.shape[0], jnp.int32))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
