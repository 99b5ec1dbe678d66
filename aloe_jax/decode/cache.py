"""The KV cache (keys and values of earlier tokens) and attention over it.

Axes: L layers, S slots, C context (tokens per slot), G key heads, R queries per key head, K head width, T new tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Attend, LayerValues
from aloe_jax.ops.attention import cap
from aloe_jax.ops.constants import MASKED


class Cache(NamedTuple):
    """Keys and values of every slot, heads in front so that attention has its batch axes first. How they are sharded
    stands in `parallel/sharding.py`."""

    key: Float[Array, "L S G C K"]
    value: Float[Array, "L S G C K"]


def empty_cache(model: ModelConfig, slots: int, context: int, dtype: DTypeLike) -> Cache:
    shape = (model.layers, slots, model.kv_heads, context, model.head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def attend_cached(slots: Int[Array, B], positions: Int[Array, "B T"], scale: float) -> Attend:
    """Attention of new tokens at `positions` of `slots` over the slot's tokens up to each token's own position, within
    the layer's window if it has one. Scores are multiplied by `scale`.

    The carry is the cache; the new keys and values are written to it first. Positions of one slot are consecutive.
    """

    def attend(layer: LayerValues, query: Array, key: Array, value: Array, cache: Cache) -> tuple[Array, Cache]:
        batch, new, heads, width = query.shape
        start = positions[:, 0]
        cache = Cache(
            _write(cache.key, layer.index, slots, start, key),
            _write(cache.value, layer.index, slots, start, value),
        )
        keys, values = cache.key[layer.index, slots], cache.value[layer.index, slots]  # B G C K
        grouped = query.reshape(batch, new, keys.shape[1], -1, width).transpose(0, 2, 3, 1, 4)
        grouped = grouped.reshape(batch, keys.shape[1], -1, width)  # B G (R T) K
        scores = jnp.einsum("bgqk,bgck->bgqc", grouped, keys, preferred_element_type=jnp.float32) * scale
        scores = cap(scores, layer.soft_cap)
        reach = jnp.tile(positions, (1, heads // keys.shape[1]))  # B (R T)
        distance = reach[:, None, :, None] - jnp.arange(keys.shape[2])
        visible = distance >= 0
        if layer.window is not None:
            visible &= distance < layer.window
        weights = jax.nn.softmax(jnp.where(visible, scores, MASKED), axis=-1).astype(values.dtype)
        out = jnp.einsum("bgqc,bgck->bgqk", weights, values)
        out = out.reshape(batch, keys.shape[1], -1, new, width).transpose(0, 3, 1, 2, 4)
        return out.reshape(query.shape), cache

    return attend


def _write(
    store: Float[Array, "L S G C K"],
    layer: Array,
    slots: Int[Array, B],
    start: Int[Array, B],
    new: Float[Array, "B T G K"],
) -> Float[Array, "L S G C K"]:
    """`store` with `new` at (layer, slot, start...) of each slot, in place inside a jitted loop."""
    rows = new.transpose(0, 2, 1, 3).astype(store.dtype)

    def one(number: Array, store: Array) -> Array:
        part = rows[number][None, None]
        return jax.lax.dynamic_update_slice(store, part, (layer, slots[number], 0, start[number], 0))

    return jax.lax.fori_loop(0, slots.shape[0], one, store)
