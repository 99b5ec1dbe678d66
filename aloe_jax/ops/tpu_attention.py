"""Tree attention as Pallas kernels for TPUs: forward, gradient of queries, gradient of keys and values.

Query i attends to key j iff `j <= i < subtree_end[j]`, and `positions[i] - positions[j] < window` in a windowed layer.
Only blocks in which some query attends to some key are computed or moved (`block_walk.py`). Softmax is online and the
backward pass recomputes the weights from the log-sum-exp, as in FlashAttention-2 (arXiv 2307.08691). Sums are f32.

Forward and query gradient hold scores as [queries, keys], the key gradient as [keys, queries], so that each sum over
passing blocks is a plain matrix product. Values per token (`subtree_end`, positions, log-sum-exp) lie along lanes in
HBM, 4 bytes per token, and are transposed to a column where a block needs them along its rows.

Axes: B rows, T tokens, H query heads, G key heads, R = H // G query heads per key head, K head width, S tokens per
block.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from aloe_jax.ops.block_walk import Kernel, KernelOptions, Mask, Placed, Ref, Step, Walk, run
from aloe_jax.ops.constants import ATTENTION_OUTPUT, MASKED

SUBLANES, LANES = 8, 128  # the tile of 32-bit values


def pallas(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B T G K"],
    value: Float[Array, "B T G K"],
    subtree_end: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    window: Int[Array, ""] | None,
    soft_cap: Float[Array, ""] | None,
    *,
    scale: float,
    interpret: bool = False,
) -> Float[Array, "B T H K"]:
    """The same as `attention.dense`, in memory linear in T.

    No gradient flows to `soft_cap`. Under `jit` on several chips it must be called inside `shard_map`. `interpret` runs
    it without a TPU, slowly.

    Raises ValueError if T is not a multiple of 128, K not one of 8, H not one of G, or the three types differ.
    """
    heads, width = query.shape[2:]
    if width % SUBLANES:
        raise ValueError(f"head width {width}: the TPU kernel needs a multiple of {SUBLANES}")
    if heads % key.shape[2]:
        raise ValueError(f"{heads} query heads cannot share {key.shape[2]} key heads evenly")
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(f"query, key and value are {query.dtype}, {key.dtype} and {value.dtype}; expected one type")
    q, k, v = (array.swapaxes(1, 2) for array in (query, key, value))
    mask = Mask(subtree_end, positions, window, soft_cap)
    return _attention(q, k, v, mask, KernelOptions(scale, interpret)).swapaxes(1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attention(
    q: Float[Array, "B H T K"],
    k: Float[Array, "B G T K"],
    v: Float[Array, "B G T K"],
    mask: Mask,
    options: KernelOptions,
) -> Float[Array, "B H T K"]:
    return _forward(q, k, v, mask, options)[0]


def _forward(q: Array, k: Array, v: Array, mask: Mask, options: KernelOptions) -> tuple[Array, tuple[Any, ...]]:
    """The output, and what the backward pass needs: the inputs, the output and the log-sum-exp [B,H,1,T]."""
    walk = Walk.over(q, k, by_key=False)
    log_sum = jax.ShapeDtypeStruct((*q.shape[:2], 1, q.shape[2]), jnp.float32)
    out, log_sum = run(
        Kernel("forward", _forward_kernel, products=2, scratch=(walk.sums(), walk.column(), walk.column())),
        walk,
        mask,
        options,
        inputs=((q, walk.query), (k, walk.key), (v, walk.key)),
        outputs=((q, walk.query), (log_sum, walk.query_lanes)),
    )
    out, log_sum = (checkpoint_name(array, ATTENTION_OUTPUT) for array in (out, log_sum))
    return out, (q, k, v, mask, out, log_sum)


def _backward(options: KernelOptions, saved: tuple[Any, ...], d_out: Array) -> tuple[Array | None, ...]:
    q, k, v, mask, out, log_sum = saved
    delta = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)[:, :, None]

    def inputs(walk: Walk) -> Placed:
        queries, keys, lanes = walk.query, walk.key, walk.query_lanes
        return (q, queries), (k, keys), (v, keys), (d_out, queries), (log_sum, lanes), (delta, lanes)

    walk = Walk.over(q, k, by_key=False)
    kernel = Kernel("query", _query_kernel, products=3, scratch=(walk.sums(), walk.column(), walk.column()))
    (d_q,) = run(kernel, walk, mask, options, inputs(walk), outputs=((q, walk.query),))
    walk = Walk.over(q, k, by_key=True)
    kernel = Kernel("key", _key_kernel, products=4, scratch=(walk.sums(), walk.sums(), walk.column(jnp.int32)))
    d_k, d_v = run(kernel, walk, mask, options, inputs(walk), outputs=((k, walk.key), (v, walk.key)))
    return d_q, d_k, d_v, None


_attention.defvjp(_forward, _backward)


def _forward_kernel(
    at: Step, q: Ref, k: Ref, v: Ref, out: Ref, log_sum: Ref, sums: Ref, total: Ref, largest: Ref, position: Ref | None
) -> None:
    """Online softmax of a home block of queries over the passing blocks of keys."""

    @pl.when(at.begins)
    def _() -> None:
        sums[...] = jnp.zeros_like(sums)
        total[...] = jnp.zeros_like(total)
        largest[...] = jnp.full_like(largest, MASKED)
        _fill(position, at.seen.query_position)

    scores, _ = _scores(at, q[...], k[...])
    scores = jnp.where(_visible(at, 0, at.seen.end, at.seen.key_position, position), scores, MASKED)
    new_largest = jnp.maximum(largest[...], scores.max(axis=1, keepdims=True))
    weights = jnp.exp(scores - new_largest)
    shrink = jnp.exp(largest[...] - new_largest)
    total[...] = total[...] * shrink + weights.sum(axis=1, keepdims=True)
    sums[...] = sums[...] * shrink + product(weights.astype(v.dtype), v[...], contract=0)
    largest[...] = new_largest

    @pl.when(at.ends)
    def _() -> None:
        out[...] = (sums[...] / total[...]).astype(out.dtype)
        log_sum[...] = _lanes(largest[...] + jnp.log(total[...]))


def _query_kernel(
    at: Step,
    q: Ref,
    k: Ref,
    v: Ref,
    d_out: Ref,
    log_sum: Ref,
    delta: Ref,
    d_q: Ref,
    sums: Ref,
    log_sum_column: Ref,
    delta_column: Ref,
    position: Ref | None,
) -> None:
    """Gradient of a home block of queries, summed over the passing blocks of keys."""

    @pl.when(at.begins)
    def _() -> None:
        sums[...] = jnp.zeros_like(sums)
        _fill(log_sum_column, log_sum)
        _fill(delta_column, delta)
        _fill(position, at.seen.query_position)

    scores, slope = _scores(at, q[...], k[...])
    visible = _visible(at, 0, at.seen.end, at.seen.key_position, position)
    weights = jnp.where(visible, jnp.exp(scores - log_sum_column[...]), 0.0)
    d_weights = product(d_out[...], v[...], contract=1)
    d_scores = weights * (d_weights - delta_column[...]) * slope
    sums[...] += product(d_scores.astype(k.dtype), k[...], contract=0)

    @pl.when(at.ends)
    def _() -> None:
        d_q[...] = (sums[...] * at.scale).astype(d_q.dtype)


def _key_kernel(
    at: Step,
    q: Ref,
    k: Ref,
    v: Ref,
    d_out: Ref,
    log_sum: Ref,
    delta: Ref,
    d_k: Ref,
    d_v: Ref,
    key_sums: Ref,
    value_sums: Ref,
    end: Ref,
    position: Ref | None,
) -> None:
    """Gradients of a home block of keys and values, summed over the passing blocks of queries of all heads that share
    it. Scores lie as [keys, queries]."""

    @pl.when(at.begins)
    def _() -> None:
        key_sums[...] = jnp.zeros_like(key_sums)
        value_sums[...] = jnp.zeros_like(value_sums)
        _fill(end, at.seen.end)
        _fill(position, at.seen.key_position)

    scores, slope = _scores(at, k[...], q[...])
    visible = _visible(at, 1, end, position, at.seen.query_position)
    weights = jnp.where(visible, jnp.exp(scores - log_sum[...]), 0.0)
    value_sums[...] += product(weights.astype(d_out.dtype), d_out[...], contract=0)
    d_weights = product(v[...], d_out[...], contract=1)
    d_scores = weights * (d_weights - delta[...]) * slope
    key_sums[...] += product(d_scores.astype(q.dtype), q[...], contract=0)

    @pl.when(at.ends)
    def _() -> None:
        d_k[...] = (key_sums[...] * at.scale).astype(d_k.dtype)
        d_v[...] = value_sums[...].astype(d_v.dtype)


def _scores(at: Step, left: Array, right: Array) -> tuple[Array, Array | float]:
    """Scaled and capped products [S,S] of two blocks of vectors, and the slope of the cap at each."""
    scores = product(left, right, contract=1) * at.scale
    if at.limits.soft_cap is None:
        return scores, 1.0
    cap = at.limits.soft_cap[0]
    capped = cap > 0
    cap = jnp.where(capped, cap, 1.0)
    bent = jnp.tanh(scores / cap)
    return jnp.where(capped, cap * bent, scores), jnp.where(capped, 1.0 - bent * bent, 1.0)


def _visible(at: Step, query_axis: int, end: Ref, key_position: Ref, query_position: Ref) -> Array:
    """The mask of a block of scores. Marks of keys and of queries lie along their own axes; without a window the
    positions are None."""
    shape = jnp.broadcast_shapes(end.shape, end.shape[::-1])
    query = at.query + jax.lax.broadcasted_iota(jnp.int32, shape, query_axis)
    key = at.key + jax.lax.broadcasted_iota(jnp.int32, shape, 1 - query_axis)
    visible = (key <= query) & (query < end[...])
    if at.limits.window is not None:
        visible &= query_position[...] - key_position[...] < at.limits.window[0]
    return visible


def product(left: Array, right: Array, contract: int) -> Float[Array, ...]:
    """left times right in f32, over the last axis of `left` and axis `contract` of `right`. f32 inputs keep full
    precision, which takes several passes of the matrix unit."""
    precision = jax.lax.Precision.HIGHEST if left.dtype == jnp.float32 else None
    dimensions = (((1,), (contract,)), ((), ()))
    return jax.lax.dot_general(left, right, dimensions, precision=precision, preferred_element_type=jnp.float32)


def _fill(column: Ref | None, lanes: Ref) -> None:
    """Set column [S,1] to lanes [1,S], transposed; does nothing for None, the positions without a window."""
    if column is not None:
        column[...] = jnp.broadcast_to(lanes[...], (SUBLANES, lanes.shape[1])).T[:, :1]


def _lanes(column: Array) -> Array:
    """Column [S,1] as lanes [1,S]."""
    return jnp.broadcast_to(column, (column.shape[0], LANES)).T[:1]
