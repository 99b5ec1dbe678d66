"""Tree attention: every token of a row attends to the tokens above it in its own tree, and to no others.

Query i attends to key j iff `j <= i < subtree_end[j]` (the causal column form of FlashMask, arXiv 2410.01359) and,
where a layer has a window, the two are less than `window` positions apart on their path. `dense` is the plain form,
with the whole T x T matrix in memory; `blocked` visits only the blocks of keys that are visible to a block of queries
and holds one block of scores at a time (forward and backward as in FlashAttention-2, arXiv 2307.08691).

Axes: B rows, T tokens, H query heads, G key heads, R = H // G query heads per key head, K head width, C blocks of
queries, Q = S tokens per block, N = R * Q.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from aloe_jax.ops.block_table import running_blocks, table_block
from aloe_jax.ops.constants import ATTENTION_OUTPUT, MASKED

NO_WINDOW = 1 << 30  # larger than every distance
BLOCK = 256  # maximum block size; rows are multiples of half of it


def dense(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B T G K"],
    value: Float[Array, "B T G K"],
    subtree_end: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    window: Int[Array, ""] | None,
    soft_cap: Float[Array, ""] | None,
    *,
    scale: float,
) -> Float[Array, "B T H K"]:
    """softmax(cap(scale x query key^T)) value under the tree mask and the window, in f32.

    `window` and `soft_cap` are scalars, so that they can differ between layers inside a scan: `NO_WINDOW` and 0 mean
    none, None a model in which no layer has one.
    """
    batch, length, heads, width = query.shape
    grouped = query.reshape(batch, length, key.shape[2], -1, width).astype(jnp.float32)
    scores = cap(jnp.einsum("bqgrk,bsgk->bgrqs", grouped, key.astype(jnp.float32)) * scale, soft_cap)
    index = jnp.arange(length)
    mask = (index <= index[:, None]) & (index[:, None] < subtree_end[:, None, :])
    if window is not None:
        mask &= positions[:, :, None] - positions[:, None, :] < window
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, MASKED), axis=-1)
    out = jnp.einsum("bgrqs,bsgk->bqgrk", weights, value.astype(jnp.float32))
    return out.reshape(batch, length, heads, width).astype(query.dtype)


def cap(scores: Float[Array, "*S"], soft_cap: Float[Array, ""] | None) -> Float[Array, "*S"]:
    """soft_cap x tanh(scores / soft_cap), or the scores where soft_cap is None or 0 (Gemma 2, arXiv 2408.00118)."""
    if soft_cap is None:
        return scores
    return jnp.where(soft_cap > 0, soft_cap * jnp.tanh(scores / jnp.where(soft_cap > 0, soft_cap, 1.0)), scores)


def block_size(length: int) -> int:
    """The block size of `blocked` for rows of `length` tokens: the whole row up to `BLOCK`, else the largest divisor
    from `BLOCK` / 2 to `BLOCK`. Raises ValueError if there is none; multiples of `BLOCK` / 2 always have one."""
    if length <= BLOCK:
        return length
    sizes = (size for size in range(BLOCK, BLOCK // 2 - 1, -1) if length % size == 0)
    size = next(sizes, None)
    if size is None:
        raise ValueError(f"row of {length} tokens is not a multiple of {BLOCK // 2}, half the attention block")
    return size


def blocked(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B T G K"],
    value: Float[Array, "B T G K"],
    subtree_end: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    window: Int[Array, ""] | None,
    soft_cap: Float[Array, ""] | None,
    *,
    scale: float,
    block: int | None = None,
) -> Float[Array, "B T H K"]:
    """The same as `dense`, without a T x T matrix.

    Raises ValueError if T is neither smaller than `block` nor a multiple of it, or without `block` as `block_size`.
    """
    length, heads, width = query.shape[1:]
    groups = key.shape[2]
    block = block_size(length) if block is None else min(block, length)
    if length % block:
        raise ValueError(f"row of {length} tokens is not a multiple of the attention block {block}")
    blocks = (length // block, block, groups, heads // groups, width)

    def row(args: tuple[Array, ...]) -> Array:
        q, k, v, end, place = args
        q = q.reshape(blocks).transpose(0, 2, 3, 1, 4).reshape(blocks[0], groups, -1, width)
        mask = _Mask(end, None if window is None else place, window, soft_cap)
        out = _row_attention(q, k.transpose(1, 0, 2), v.transpose(1, 0, 2), mask, block, scale)
        out = out.reshape(blocks[0], groups, -1, block, width)
        return out.transpose(0, 3, 1, 2, 4).reshape(length, heads, width)

    return jax.lax.map(row, (query, key, value, subtree_end, positions))


def tree_attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B T G K"],
    value: Float[Array, "B T G K"],
    subtree_end: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    window: Int[Array, ""] | None = None,
    soft_cap: Float[Array, ""] | None = None,
    *,
    scale: float,
    implementation: str,
    mesh: Mesh | None = None,
) -> Float[Array, "B T H K"]:
    """The attention of training: each chip computes its own rows and heads, without communication."""
    attention = functools.partial(IMPLEMENTATIONS[chosen(implementation, mesh)], scale=scale)
    if mesh is None or mesh.size == 1:
        return attention(query, key, value, subtree_end, positions, window, soft_cap)
    rows = ("replica", "fsdp")
    heads, row, whole = PartitionSpec(rows, None, "tensor", None), PartitionSpec(rows, None), PartitionSpec()
    return jax.shard_map(
        attention,
        mesh=mesh,
        in_specs=(heads, heads, heads, row, row, whole, whole),
        out_specs=heads,
        check_vma=False,
    )(query, key, value, subtree_end, positions, window, soft_cap)


def pallas(*operands: Any, scale: float) -> Float[Array, "B T H K"]:
    """`dense` as Pallas kernels for TPUs, which are loaded only where they run."""
    from aloe_jax.ops import tpu_attention

    return tpu_attention.pallas(*operands, scale=scale)


IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {"dense": dense, "blocked": blocked, "pallas": pallas}
# Block size for a row of a given length, by implementation; ValueError for a length that cannot be cut into blocks.
BLOCK_SIZES: dict[str, Callable[[int], int]] = {"blocked": block_size, "pallas": table_block}
AUTO = "auto"


def chosen(implementation: str, mesh: Mesh | None = None) -> str:
    """The implementation that a name means on the devices of the mesh (without one, the default devices): "auto" is
    `pallas` on TPUs and `blocked` elsewhere."""
    if implementation != AUTO:
        return implementation
    return "pallas" if on_tpu(mesh) else "blocked"


def on_tpu(mesh: Mesh | None) -> bool:
    """Whether the devices of the mesh (without one, the default devices) are TPUs."""
    return platform_of(mesh) == "tpu"


def platform_of(mesh: Mesh | None) -> str:
    """The platform of a mesh's devices; without one that of the default devices."""
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


class _Mask(NamedTuple):
    """The mask, window and soft cap of one row's scores: see `dense`."""

    end: Int[Array, T]
    positions: Int[Array, T] | None  # None without a window
    window: Int[Array, ""] | None
    soft_cap: Float[Array, ""] | None


class Blocks(NamedTuple):
    """The blocks of keys that each block of queries visits."""

    order: Int[Array, "NQ NS"]  # per query block: the key blocks to visit, in order, then the rest
    count: Int[Array, NQ]  # number of key blocks to visit


def visible_blocks(
    subtree_end: Int[Array, T],
    block: int,
    positions: Int[Array, T] | None = None,
    window: Int[Array, ""] | None = None,
) -> Blocks:
    """The key blocks that run for each query block (`running_blocks`), at least its own."""
    rows = None if positions is None else positions[None]
    seen = running_blocks(subtree_end[None], rows, window, block)[0]
    return Blocks(jnp.argsort(~seen, axis=1, stable=True), seen.sum(axis=1))


def _slice(array: Array, number: Array, block: int, axis: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, number * block, block, axis)


def _scores(
    q: Array, k: Array, mask: _Mask, scale: float, query_block: Array, key_block: Array
) -> Float[Array, "G N S"]:
    """Masked, scaled and capped scores of one block of queries [G,N,K] against one of keys [G,S,K]."""
    groups, rows, _ = q.shape
    block = k.shape[1]
    scores = jnp.einsum("gnk,gsk->gns", q, k, preferred_element_type=jnp.float32) * scale
    row = query_block * block + jnp.arange(block)[:, None]
    column = key_block * block + jnp.arange(block)
    visible = (column <= row) & (row < _slice(mask.end, key_block, block, 0))
    if mask.window is not None:
        here, there = (_slice(mask.positions, number, block, 0) for number in (query_block, key_block))
        visible &= here[:, None] - there < mask.window
    by_head = cap(scores, mask.soft_cap).reshape(groups, rows // block, block, block)
    return jnp.where(visible, by_head, MASKED).reshape(scores.shape)


def _slope(scores: Float[Array, "G N S"], soft_cap: Float[Array, ""] | None) -> Float[Array, "G N S"] | float:
    """Derivative of the capped scores by the scores: 1 - tanh^2. Masked scores, whose weight is 0, count as 0."""
    if soft_cap is None:
        return 1.0
    capped = jnp.where(scores > MASKED, scores, 0) / jnp.where(soft_cap > 0, soft_cap, 1.0)
    return jnp.where(soft_cap > 0, 1 - jnp.square(capped), 1.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _row_attention(
    q: Float[Array, "C G N K"],
    k: Float[Array, "G T K"],
    v: Float[Array, "G T K"],
    mask: _Mask,
    block: int,
    scale: float,
) -> Float[Array, "C G N K"]:
    """Attention of one row. Queries come in C blocks with the R heads of a group and the Q queries of a block on one
    axis N = R * Q: every backend is fast at matrix products with one axis per side."""
    return _forward(q, k, v, mask, block, scale)[0]


def _forward(q: Array, k: Array, v: Array, mask: _Mask, block: int, scale: float) -> tuple[Array, tuple[Any, ...]]:
    """Online softmax over the visible key blocks of each query block; keeps the log-sum-exp [C,G,N] for backward."""
    blocks = visible_blocks(mask.end, block, mask.positions, mask.window)

    def query_block(args: tuple[Array, Array]) -> tuple[Array, Array]:
        number, q_block = args

        def visit(step: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            out, total, largest = state
            other = blocks.order[number, step]
            scores = _scores(q_block, _slice(k, other, block, 1), mask, scale, number, other)
            new_largest = jnp.maximum(largest, scores.max(axis=-1))
            weights = jnp.exp(scores - new_largest[..., None])
            shrink = jnp.exp(largest - new_largest)
            v_block = _slice(v, other, block, 1)
            added = jnp.einsum("gns,gsk->gnk", weights.astype(v.dtype), v_block, preferred_element_type=jnp.float32)
            return out * shrink[..., None] + added, total * shrink + weights.sum(axis=-1), new_largest

        start = (
            jnp.zeros(q_block.shape, jnp.float32),
            jnp.zeros(q_block.shape[:-1], jnp.float32),
            jnp.full(q_block.shape[:-1], MASKED, jnp.float32),
        )
        out, total, largest = jax.lax.fori_loop(0, blocks.count[number], visit, start)
        return (out / total[..., None]).astype(q.dtype), largest + jnp.log(total)

    out, log_sum = jax.lax.map(query_block, (jnp.arange(q.shape[0]), q))
    out, log_sum = (checkpoint_name(array, ATTENTION_OUTPUT) for array in (out, log_sum))
    return out, (q, k, v, mask, out, log_sum)


def _backward(block: int, scale: float, saved: tuple[Any, ...], d_out: Array) -> tuple[Array, Array, Array, None]:
    """Recomputes each visible block's weights from the log-sum-exp (FlashAttention-2, algorithm 2)."""
    q, k, v, mask, out, log_sum = saved
    blocks = visible_blocks(mask.end, block, mask.positions, mask.window)
    delta = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)

    def query_block(d_key_value: tuple[Array, Array], args: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        number, q_block, d_block, log_block, delta_block = args

        def visit(step: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            d_q, d_k, d_v = state
            other = blocks.order[number, step]
            k_block, v_block = _slice(k, other, block, 1), _slice(v, other, block, 1)
            scores = _scores(q_block, k_block, mask, scale, number, other)
            weights = jnp.exp(scores - log_block[..., None])
            f32 = {"preferred_element_type": jnp.float32}
            d_weights = jnp.einsum("gnk,gsk->gns", d_block, v_block, **f32)
            slope = _slope(scores, mask.soft_cap)
            d_scores = (weights * (d_weights - delta_block[..., None]) * slope).astype(q.dtype)
            d_q = d_q + jnp.einsum("gns,gsk->gnk", d_scores, k_block, **f32)
            new_k = jnp.einsum("gns,gnk->gsk", d_scores, q_block, **f32)
            new_v = jnp.einsum("gns,gnk->gsk", weights.astype(q.dtype), d_block, **f32)
            return d_q, _add(d_k, new_k, other), _add(d_v, new_v, other)

        start = (jnp.zeros(q_block.shape, jnp.float32), *d_key_value)
        d_q, d_k, d_v = jax.lax.fori_loop(0, blocks.count[number], visit, start)
        return (d_k, d_v), (d_q * scale).astype(q.dtype)

    zeros = jnp.zeros(k.shape, jnp.float32)
    inputs = (jnp.arange(q.shape[0]), q, d_out, log_sum, delta)
    (d_k, d_v), d_q = jax.lax.scan(query_block, (zeros, zeros), inputs)
    return d_q, (d_k * scale).astype(k.dtype), d_v.astype(v.dtype), None


def _add(total: Float[Array, "G T K"], part: Float[Array, "G S K"], number: Array) -> Float[Array, "G T K"]:
    """`total` with `part` added at key block `number`, in place inside a loop."""
    block = part.shape[1]
    return jax.lax.dynamic_update_slice_in_dim(total, _slice(total, number, block, 1) + part, number * block, 1)


_row_attention.defvjp(_forward, _backward)
