"""Drawing the next token: temperature, top-k and top-p, exactly and without a sort.

Both filters keep the tokens whose probability is at least some threshold: top-k the largest threshold that at least k
tokens reach, top-p the largest at which the kept probabilities sum to at least p. Non-negative floats are ordered as
their bit patterns are, so the threshold is found by bisection over 31 bits, each a masked sum over the vocabulary.
Tokens tied with the last one kept are kept too.

Axes: S slots, V vocabulary, W words of 32 tokens' bits, N most probable tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from aloe_jax.decode.requests import MAX_TOP_LOGPROBS

ALL = np.uint32(0xFFFFFFFF)  # 32 tokens that are all allowed
FLOAT_BITS = 31  # of a non-negative f32, without its sign


class Sampled(NamedTuple):
    """A token of each slot, and the most probable tokens that could have been drawn instead. Log-probabilities are
    natural, those of the unfiltered and unconstrained model at temperature 1."""

    token: Int[Array, S]
    log_prob: Float[Array, S]
    top_ids: Int[Array, "S N"]
    top_log_probs: Float[Array, "S N"]  # -inf where fewer than N could be drawn


def sample(
    logits: Float[Array, "S V"],
    keys: Key[Array, S],
    temperature: Float[Array, S],
    top_p: Float[Array, S],
    top_k: Int[Array, S],
    vocab: int | None = None,
    allowed: UInt32[Array, "S W"] | None = None,
    want_top: Bool[Array, ""] | bool = False,
    moved: Float[Array, "S V"] | None = None,
    min_p: Float[Array, S] | None = None,
) -> Sampled:
    """A token for each slot.

    temperature 0 takes the most probable token; top_p 1.0 and top_k 0 keep everything. Only ids below `vocab` are
    drawn: output heads are padded beyond the tokenizer's vocabulary, and such an id has no text. `allowed` are bits of
    the tokens that may be drawn, the lowest of a word first; the filters apply to those. The most probable tokens are
    computed only with `want_top`, else they are zeros. `moved` (`decode/adjust.py`) is added before all that, and
    `min_p` keeps the tokens that are at least as many times as probable as the most probable one before top-k does.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    probable = _drawable(log_probs, vocab, allowed)
    drawable = probable if moved is None else _drawable(log_probs + moved, vocab, allowed)
    greedy = _first_largest(drawable)
    scaled = drawable / jnp.maximum(temperature, 1e-6)[:, None]
    if min_p is not None:
        least = scaled.max(axis=-1, keepdims=True) + jnp.log(min_p)[:, None]
        scaled = jnp.where(scaled < least, -jnp.inf, scaled)
    filtering = jnp.any(((top_p < 1.0) | (top_k > 0)) & (temperature > 0))
    scaled = jax.lax.cond(filtering, lambda: _filter(scaled, top_p, top_k), lambda: scaled)
    draws = temperature > 0
    drawn = jax.lax.cond(jnp.any(draws), lambda: jax.vmap(jax.random.categorical)(keys, scaled), lambda: greedy)
    token = jnp.where(draws, drawn, greedy)
    log_prob = jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0]
    return Sampled(token, log_prob, *most_probable(probable, want_top))


def _drawable(
    scores: Float[Array, "S V"], vocab: int | None, allowed: UInt32[Array, "S W"] | None
) -> Float[Array, "S V"]:
    """The scores, with -inf at tokens that may not be drawn."""
    if vocab is not None:
        scores = scores.at[:, vocab:].set(-jnp.inf)
    if allowed is None:
        return scores
    return jax.lax.cond(jnp.any(allowed != ALL), lambda: _masked(scores, allowed), lambda: scores)


def _first_largest(values: Float[Array, "S V"]) -> Int[Array, S]:
    """`argmax` over the vocabulary as two plain reductions, which XLA's CPU backend computes in a sixth of the time."""
    places = jnp.arange(values.shape[-1], dtype=jnp.int32)
    largest = values.max(axis=-1, keepdims=True)
    return jnp.where(values == largest, places, values.shape[-1] - 1).min(axis=-1)


def _masked(log_probs: Float[Array, "S V"], allowed: UInt32[Array, "S W"]) -> Float[Array, "S V"]:
    bits = (allowed[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return jnp.where(bits.reshape(len(allowed), -1)[:, : log_probs.shape[1]] > 0, log_probs, -jnp.inf)


def most_probable(
    log_probs: Float[Array, "S V"], wanted: Bool[Array, ""] | bool
) -> tuple[Int[Array, "S N"], Float[Array, "S N"]]:
    """Ids and log-probabilities of the most probable tokens, N = 20 or the vocabulary; zeros unless `wanted`."""
    slots, vocab = log_probs.shape
    number = min(MAX_TOP_LOGPROBS, vocab)

    def find() -> tuple[Array, Array]:
        values, ids = jax.lax.top_k(log_probs, number)
        return ids, values

    def none() -> tuple[Array, Array]:
        return jnp.zeros((slots, number), jnp.int32), jnp.zeros((slots, number), log_probs.dtype)

    if wanted is False:
        return none()
    return jax.lax.cond(wanted, find, none)


def _filter(scaled: Float[Array, "S V"], top_p: Float[Array, S], top_k: Int[Array, S]) -> Float[Array, "S V"]:
    """Log-probabilities with the tokens outside top-k, and then outside top-p of what is left, at -inf."""
    probs = jax.nn.softmax(scaled, axis=-1)
    by_count = _threshold(lambda kept: jnp.sum(kept, axis=-1) >= top_k, probs)
    probs = jnp.where((top_k > 0)[:, None] & (probs < by_count[:, None]), 0.0, probs)
    # Something is kept even where a tiny top_p underflows to 0.
    wanted = jnp.maximum(top_p * probs.sum(axis=-1), jnp.finfo(probs.dtype).tiny)
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
