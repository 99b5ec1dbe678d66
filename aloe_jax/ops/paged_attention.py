"""Attention of new tokens over keys and values in pages: the attention of decoding.

A page holds P consecutive tokens of one sequence, and a row's table lists its pages in order, so sequences that begin
alike can share pages (PagedAttention, arXiv 2309.06180). `dense` is the plain form; on TPUs the same is a kernel
(`tpu_paged_attention.py`). A step costs what the rows hold: a row visits its own pages, with a window only those that
some query reaches, whatever the width of the table and the length of its neighbours.

Axes: B rows, T new tokens, H query heads, G key heads, R = H // G query heads per key head, K head width, N pages, P
tokens per page, W entries of a row's table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from aloe_jax.ops.attention import AUTO, cap, on_tpu
from aloe_jax.ops.constants import MASKED


def dense(
    query: Float[Array, "B T H K"],
    keys: Float[Array, "N G P K"],
    values: Float[Array, "N G P K"],
    tables: Int[Array, "B W"],
    start: Int[Array, B],
    *,
    scale: float,
    window: Int[Array, ""] | None = None,
    soft_cap: Float[Array, ""] | None = None,
) -> Float[Array, "B T H K"]:
    """softmax(cap(scale x query key^T)) value over a row's pages, with an online softmax in f32.

    Query t of a row stands at position `start + t` and sees the keys up to its own position, in a windowed layer those
    less than `window` positions back. `tables[b, j]` is the page of the tokens from `j * P` on; entries behind the
    row's last page are not read. A negative `start` marks an idle row: zeros, at no cost. The new tokens' own keys and
    values are in the pages already. `window` and `soft_cap` are as in `attention.dense`.

    Row by row and page by page, so a row's numbers do not depend on its neighbours. On XLA's CPU backend it is also the
    fastest of the plain forms: a page is in the core's cache when it is used, where a gather over all rows writes their
    pages to memory and reads them again.

    Raises ValueError if H is no multiple of G, or the three types or head widths differ.
    """
    check(query, keys, values)
    batch, new, heads, width = query.shape
    groups, size = keys.shape[1:3]
    grouped = query.reshape(batch, new, groups, -1, width).transpose(0, 2, 3, 1, 4).reshape(batch, groups, -1, width)
    f32 = {"preferred_element_type": jnp.float32}

    def row(args: tuple[Array, ...]) -> Array:
        q, table, begin = args
        position = jnp.tile(begin + jnp.arange(new), heads // groups)[:, None]  # R T, 1
        first, end = page_range(begin, new, size, table.shape[0], window)

        def visit(index: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            out, total, largest = state
            k, v = (jax.lax.dynamic_index_in_dim(pages, table[index], keepdims=False) for pages in (keys, values))
            scores = cap(jnp.einsum("gnk,gpk->gnp", q, k, **f32) * scale, soft_cap)
            distance = position - (index * size + jnp.arange(size))
            visible = distance >= 0
            if window is not None:
                visible &= distance < window
            scores = jnp.where(visible, scores, MASKED)
            new_largest = jnp.maximum(largest, scores.max(axis=-1))
            weights = jnp.exp(scores - new_largest[..., None])
            shrink = jnp.exp(largest - new_largest)
            added = jnp.einsum("gnp,gpk->gnk", weights.astype(v.dtype), v, **f32)
            return out * shrink[..., None] + added, total * shrink + weights.sum(axis=-1), new_largest

        zeros = jnp.zeros(q.shape, jnp.float32)
        nothing = (zeros, zeros[..., 0], jnp.full(q.shape[:-1], MASKED, jnp.float32))
        out, total, _ = jax.lax.fori_loop(first, end, visit, nothing)
        return (out / jnp.where(total > 0, total, 1.0)[..., None]).astype(query.dtype)

    out = jax.lax.map(row, (grouped, tables, start))
    return out.reshape(batch, groups, -1, new, width).transpose(0, 3, 1, 2, 4).reshape(query.shape)


def page_range(start: Any, new: int, size: int, entries: int, window: Any) -> tuple[Any, Any]:
    """First entry of a row's table that its new tokens reach, and the first behind them; an empty range for an idle
    row. Plain arithmetic on scalars, for kernels too."""
    end = jnp.minimum((start + new + size - 1) // size, entries)
    first = 0 if window is None else jnp.maximum(start - window + 1, 0) // size
    return first, jnp.where(start < 0, first, end)


def check(query: Array, keys: Array, values: Array) -> None:
    """Raises ValueError if the heads, the head widths or the types do not fit."""
    if query.shape[2] % keys.shape[1]:
        raise ValueError(f"{query.shape[2]} query heads cannot share {keys.shape[1]} key heads evenly")
    if not query.shape[3] == keys.shape[3] == values.shape[3]:
        widths = [array.shape[3] for array in (query, keys, values)]
        raise ValueError(f"heads of query, keys and values are {widths[0]}, {widths[1]} and {widths[2]} wide")
    if not query.dtype == keys.dtype == values.dtype:
        raise ValueError(
            f"query, keys and values are {query.dtype}, {keys.dtype} and {values.dtype}; expected one type"
        )


def paged_attention(
    query: Float[Array, "B T H K"],
    keys: Float[Array, "N G P K"],
    values: Float[Array, "N G P K"],
    tables: Int[Array, "B W"],
    start: Int[Array, B],
    *,
    scale: float,
    window: Int[Array, ""] | None = None,
    soft_cap: Float[Array, ""] | None = None,
    implementation: str = AUTO,
    mesh: Mesh | None = None,
) -> Float[Array, "B T H K"]:
    """The attention of decoding; arguments as in `dense`.

    On a mesh each chip computes its own rows and heads, without communication: rows and pages lie over `replica` and
    `fsdp`, heads over `tensor`. A chip's rows find their keys in its own pages, and the tables hold the numbers that
    pages have on their chip.
    """
    attention = functools.partial(IMPLEMENTATIONS[chosen(implementation, mesh)], scale=scale)
    operands = (query, keys, values, tables, start)
    if mesh is None or mesh.size == 1:
        return attention(*operands, window=window, soft_cap=soft_cap)
    rows = ("replica", "fsdp")
    heads, pages, row = PartitionSpec(rows, None, "tensor"), PartitionSpec(rows, "tensor"), PartitionSpec(rows)
    whole = PartitionSpec()
    return jax.shard_map(
        lambda *operands: attention(*operands[:5], window=operands[5], soft_cap=operands[6]),
        mesh=mesh,
        in_specs=(heads, pages, pages, row, row, whole, whole),
        out_specs=heads,
        check_vma=False,
    )(*operands, window, soft_cap)


def pallas(*operands: Any, **layer: Any) -> Float[Array, "B T H K"]:
    """`dense` as a Pallas kernel for TPUs, which is loaded only where it runs."""
    from aloe_jax.ops import tpu_paged_attention

    return tpu_paged_attention.pallas(*operands, **layer)


IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {"dense": dense, "pallas": pallas}


def chosen(implementation: str, mesh: Mesh | None = None) -> str:
    """The implementation that a name means on the devices of the mesh (without one, the default devices): "auto" is
    `pallas` on TPUs and `dense` elsewhere."""
    if implementation != AUTO:
        return implementation
    return "pallas" if on_tpu(mesh) else "dense"
