"""The compiled programs of the engine, which `aloe plan` compiles for TPUs as well.

`prefill` runs a chunk of a prompt into a slot of the cache, `burst` decodes all slots for a few steps, `fork` copies a
slot, `assign` starts decoding in one. The engine and the planner jit them, each with shardings of its own.

Axes: S slots, T tokens of a chunk, V vocabulary, W words of 32 tokens' bits, N steps of a burst, E end-of-turn tokens.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from aloe_jax.decode.cache import Cache, attend_cached
from aloe_jax.decode.sampling import Sampled, sample
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Options
from aloe_jax.ops.attention import cap
from aloe_jax.ops.precision import in_precision_of

BURST = 8  # decode steps between two looks at the results
CHUNK = 64  # prompt tokens that are run at a time


class Slots(NamedTuple):
    """Device state of the slots [S]."""

    token: Int[Array, S]  # the next token to run through the model
    position: Int[Array, S]
    left: Int[Array, S]  # tokens that may still be sampled; 0 = idle
    key: Key[Array, S]
    temperature: Float[Array, S]
    top_p: Float[Array, S]
    top_k: Int[Array, S]


def cache_length(context: int) -> int:
    """Tokens that a slot of the cache holds: whole chunks, so that a prompt's last chunk, padding included, always
    fits."""
    return -(-context // CHUNK) * CHUNK


def idle_slots(slots: int) -> Slots:
    """The state of slots that decode nothing."""
    whole = functools.partial(jnp.zeros, slots, jnp.int32)  # a buffer each, since the state is donated
    real = functools.partial(jnp.ones, slots, jnp.float32)
    return Slots(whole(), whole(), whole(), jax.random.split(jax.random.key(0), slots), real(), real(), whole())


def assign(state: Slots, slot: int, values: Slots) -> Slots:
    """The state with `values` (scalars) at one slot."""
    return jax.tree.map(lambda leaf, value: leaf.at[slot].set(value), state, values)


def fork(cache: Cache, source: int, target: int) -> Cache:
    """The cache with what slot `source` holds at slot `target` as well."""
    return jax.tree.map(lambda store: store.at[:, target].set(store[:, source]), cache)


def prefill(
    params: decoder.Params,
    cache: Cache,
    tokens: Int[Array, "1 T"],
    start: Array,
    slot: Array,
    *,
    model: ModelConfig,
    dtype: DTypeLike,
) -> Cache:
    """The cache after one chunk of a prompt, whose first token is at position `start`, was run into a slot."""
    positions = start + jnp.arange(tokens.shape[1])[None]
    attend = attend_cached(jnp.asarray(slot)[None], positions, model.scale)
    run = in_precision_of(dtype)(decoder.hidden_states)
    return run(params, model, tokens, positions, attend, cache, Options(dtype))[1]


def burst(
    params: decoder.Params,
    cache: Cache,
    state: Slots,
    allowed: UInt32[Array, "S W"] | None,
    want_top: Bool[Array, ""] | bool,
    steps: Int[Array, ""] | int,
    *,
    model: ModelConfig,
    dtype: DTypeLike,
    ends: Int[Array, E],
    vocab: int | None,
) -> tuple[Cache, Slots, Bool[Array, "N S"], Sampled]:
    """The cache and the state after `steps` decode steps, at most `BURST`, that draw from the `allowed` tokens; whether
    each slot was going at each step, and what was sampled, [N, S, ...]. Of the N = `BURST` places only the first
    `steps` are filled: their number is a value and not a shape, so that slots get the same numbers from the same
    program whatever runs beside them."""
    head = in_precision_of(dtype)(decoder.head_weight)(params, model).astype(dtype)
    slots = jnp.arange(state.token.shape[0])

    @in_precision_of(dtype)
    def one(cache: Cache, state: Slots) -> tuple[Cache, Slots, tuple[Array, Sampled]]:
        going = state.left > 0
        positions = state.position[:, None]
        attend = attend_cached(slots, positions, model.scale)
        options = Options(dtype)
        hidden, cache = decoder.hidden_states(params, model, state.token[:, None], positions, attend, cache, options)
        logits = jnp.einsum("sd,dv->sv", hidden[:, 0], head, preferred_element_type=jnp.float32)
        logits = cap(logits, model.final_soft_cap)
        keys = jax.vmap(jax.random.fold_in)(state.key, state.position)
        sampled = sample(logits, keys, state.temperature, state.top_p, state.top_k, vocab, allowed, want_top)
        ended = jnp.any(sampled.token[:, None] == ends, axis=1)
        state = state._replace(
            token=jnp.where(going, sampled.token, state.token),
            position=state.position + going,
            left=jnp.where(going & ~ended, state.left - 1, 0),
        )
        return cache, state, (going, sampled)

    def put(number: Array, carry: tuple[Cache, Slots, Any]) -> tuple[Cache, Slots, Any]:
        cache, state, found = carry
        cache, state, new = one(cache, state)
        return cache, state, jax.tree.map(lambda places, leaf: places.at[number].set(leaf), found, new)

    _, _, shapes = jax.eval_shape(one, cache, state)
    found = jax.tree.map(lambda leaf: jnp.zeros((BURST, *leaf.shape), leaf.dtype), shapes)
    cache, state, (going, sampled) = jax.lax.fori_loop(0, steps, put, (cache, state, found))
    return cache, state, going, sampled
