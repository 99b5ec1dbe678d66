"""Attention over pages as a Pallas kernel for TPUs: `paged_attention.dense` at the speed of the pages' copies.

The kernels that JAX keeps take window and soft cap as Python numbers, one program per value, or no window at all; the
ragged one also refuses numbers of key heads that do not fill a tile, such as three in bf16.

The grid is the rows. A row copies its own pages, and with a window only those that some query reaches, from HBM into
one of two blocks of VMEM while the other one is computed on; behind the row's last block come the first pages of the
next row, so copies never pause. Pages are found through the tables, which lie in scalar memory. The softmax is online,
as in FlashAttention-2 (arXiv 2307.08691), with sums in f32.

Axes: B rows, T new tokens, H query heads, G key heads, R = H // G query heads per key head, M = T * R queries per key
head, K head width, N pages, P tokens per page, W entries of a row's table, S tokens per block, a number of pages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from aloe_jax.ops.block_walk import Limits, Ref
from aloe_jax.ops.constants import MASKED
from aloe_jax.ops.paged_attention import check, page_range
from aloe_jax.ops.tpu_attention import LANES, product

BLOCK_BYTES = 1 << 19  # of keys in a block; as many of values, and two of each are in VMEM
BLOCK_SCORES = 1 << 18  # of one key head in a block, f32
VMEM_BYTES = 1 << 25
UNROLLED = 64  # up to so many queries of all heads the loop over key heads is unrolled
ROWS_PER_TILE = 16  # of a bf16 array; a page's copy fills whole tiles


def pallas(
    query: Float[Array, "B T H K"],
    keys: Float[Array, "N G P K"],
    values: Float[Array, "N G P K"],
    tables: Int[Array, "B W"],
    start: Int[Array, B],
    *,
    scale: float,
    window: Int[Array, ""] | None = None,
    soft_cap: Float[Array, ""] | None = None,
    pages: int | None = None,
    interpret: bool | pltpu.InterpretParams = False,
) -> Float[Array, "B T H K"]:
    """The same as `paged_attention.dense`. Under `jit` on several chips it must be called inside `shard_map`. `pages`
    is the number of pages per block, by default as many as fit; `interpret` runs it without a TPU, slowly.

    Raises ValueError if P is no multiple of 16, H none of G, or the three types or head widths differ.
    """
    check(query, keys, values)
    size = keys.shape[2]
    if size % ROWS_PER_TILE:
        raise ValueError(f"pages of {size} tokens: the TPU kernel needs a multiple of {ROWS_PER_TILE}")
    batch, new, _, width = query.shape
    groups = keys.shape[1]
    rows = query.reshape(batch, new, groups, -1, width).swapaxes(1, 2).reshape(batch, groups, -1, width)
    limits = Limits(
        None if window is None else jnp.asarray(window, jnp.int32).reshape(1),
        None if soft_cap is None else jnp.asarray(soft_cap, jnp.float32).reshape(1),
    )
    shape = Shape(rows.shape, new, size, tables.shape[1], query.dtype, pages)
    out = _call(shape, scale, interpret)(tables.reshape(-1), start, limits, rows, keys, values)
    return out.reshape(batch, groups, new, -1, width).swapaxes(1, 2).reshape(query.shape)


class Shape(NamedTuple):
    """The static sizes of a call."""

    queries: tuple[int, ...]  # B G M K
    new: int
    page: int  # tokens per page
    entries: int  # of a row's table
    dtype: Any
    given: int | None = None  # pages per block

    @property
    def token_bytes(self) -> int:
        """Bytes of a token's keys, or of its values: in HBM and VMEM each head fills whole lanes."""
        _, groups, _, width = self.queries
        return groups * -(-width // LANES) * LANES * self.dtype.itemsize

    @property
    def parts(self) -> int:
        """Rows are dealt out to the two cores of a chip that has two, such as v5p."""
        return 1 if self.queries[0] % 2 else 2

    @property
    def pages(self) -> int:
        """Pages per block: those given, else as many as fit its memory, at most a row's."""
        if self.given is not None:
            return self.given
        fitting = min(BLOCK_BYTES // self.token_bytes, BLOCK_SCORES // self.queries[2]) // self.page
        return max(1, min(self.entries, fitting))

    @property
    def cost(self) -> pl.CostEstimate:
        """The cost where every entry of the tables is a page in use and no window hides any: what is in use is not
        known at compile time. Queries and outputs move once, and each page of each row once."""
        batch, groups, rows, width = self.queries
        tokens = batch * self.entries * self.page
        return pl.CostEstimate(
            flops=4 * tokens * groups * rows * width,
            transcendentals=tokens * groups * rows,
            bytes_accessed=2 * (tokens + batch * rows) * self.token_bytes,
        )


def _call(shape: Shape, scale: float, interpret: bool | pltpu.InterpretParams) -> Callable[..., Array]:
    batch, groups, rows, width = shape.queries
    per_part = batch // shape.parts
    block = (2, groups, shape.pages * shape.page, width)
    row = pl.BlockSpec((None, groups, rows, width), lambda part, step, *_: (part * per_part + step, 0, 0, 0))
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    return pl.pallas_call(
        functools.partial(_kernel, shape, scale),
        name="paged_attention",
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(shape.parts, per_part),
            in_specs=(row, anywhere, anywhere),
            out_specs=row,
            scratch_shapes=(
                pltpu.VMEM(block, shape.dtype),
                pltpu.VMEM(block, shape.dtype),
                pltpu.VMEM((groups, rows, width), jnp.float32),
                pltpu.VMEM((groups, rows, 1), jnp.float32),
                pltpu.VMEM((groups, rows, 1), jnp.float32),
                pltpu.SMEM((1,), jnp.int32),
                pltpu.SemaphoreType.DMA((2, 2)),
            ),
        ),
        out_shape=jax.ShapeDtypeStruct(shape.queries, shape.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=VMEM_BYTES
        ),
        cost_estimate=shape.cost,
        interpret=interpret,
    )


class Copies(NamedTuple):
    """The copies of a row's blocks of pages into one half of the buffers."""

    shape: Shape
    tables: Ref
    start: Ref
    limits: Limits
    pools: tuple[Ref, Ref]
    buffers: tuple[Ref, Ref]  # [2,G,S,K]
    semaphores: Ref  # [2,2]: half, keys or values

    def span(self, row: Array) -> tuple[Array, Array]:
        window = None if self.limits.window is None else self.limits.window[0]
        return page_range(self.start[row], self.shape.new, self.shape.page, self.shape.entries, window)

    def blocks(self, row: Array) -> Array:
        """How many blocks a row has: at least one, though an idle row's is empty."""
        first, end = self.span(row)
        return jnp.maximum((end - first + self.shape.pages - 1) // self.shape.pages, 1)

    def each(self, row: Array, block: Array, half: Array, act: Callable[[Any], None]) -> None:
        """`act` on the copy of each of a block's pages that the row has, of keys and of values."""
        first, end = self.span(row)
        begin = first + block * self.shape.pages

        def page(number: Array, _: None) -> None:
            source = self.tables[row * self.shape.entries + begin + number]
            place = pl.ds(pl.multiple_of(number * self.shape.page, self.shape.page), self.shape.page)
            for kind, (pool, buffer) in enumerate(zip(self.pools, self.buffers, strict=True)):
                target = buffer.at[half, :, place]
                act(pltpu.make_async_copy(pool.at[source], target, self.semaphores.at[half, kind]))

        jax.lax.fori_loop(0, jnp.clip(end - begin, 0, self.shape.pages), page, None)


def _kernel(
    shape: Shape,
    scale: float,
    tables: Ref,
    start: Ref,
    limits: Limits,
    q: Ref,
    keys: Ref,
    values: Ref,
    out: Ref,
    k: Ref,
    v: Ref,
    sums: Ref,
    total: Ref,
    largest: Ref,
    turn: Ref,
    semaphores: Ref,
) -> None:
    """One row. `turn` is the half of the buffers that holds its first block."""
    part, step, steps = pl.program_id(0), pl.program_id(1), pl.num_programs(1)
    row = part * steps + step
    copies = Copies(shape, tables, start, limits, (keys, values), (k, v), semaphores)

    @pl.when(step == 0)
    def _() -> None:
        v[...] = jnp.zeros_like(v)  # what no page fills has weight 0, which only a finite value survives
        turn[0] = 0
        copies.each(row, 0, 0, lambda copy: copy.start())

    sums[...] = jnp.zeros_like(sums)
    total[...] = jnp.zeros_like(total)
    largest[...] = jnp.full_like(largest, MASKED)
    blocks, begin = copies.blocks(row), turn[0]
    first, _ = copies.span(row)

    def visit(block: Array, nothing: None) -> None:
        half = (begin + block) % 2
        more = block + 1 < blocks

        @pl.when(more | (step + 1 < steps))
        def _() -> None:
            following = jnp.where(more, row, row + 1), jnp.where(more, block + 1, 0)
            copies.each(*following, 1 - half, lambda copy: copy.start())

        copies.each(row, block, half, lambda copy: copy.wait())

        @pl.when(start[row] >= 0)
        def _() -> None:
            visible = _visible(shape, limits, start[row], (first + block * shape.pages) * shape.page)

            def head(group: Array, _: None) -> None:
                scores = _capped(product(q[group], k[half, group], contract=1) * scale, limits)
                scores = jnp.where(visible, scores, MASKED)
                new_largest = jnp.maximum(largest[group], scores.max(axis=1, keepdims=True))
                weights = jnp.exp(scores - new_largest)
                shrink = jnp.exp(largest[group] - new_largest)
                total[group] = total[group] * shrink + weights.sum(axis=1, keepdims=True)
                added = product(weights.astype(v.dtype), v[half, group], contract=0)
                sums[group] = sums[group] * shrink + added
                largest[group] = new_largest

            groups, queries = q.shape[:2]
            jax.lax.fori_loop(0, groups, head, None, unroll=groups * queries <= UNROLLED)

    jax.lax.fori_loop(0, blocks, visit, None)
    turn[0] = (begin + blocks) % 2
    out[...] = (sums[...] / jnp.where(total[...] > 0, total[...], 1.0)).astype(out.dtype)


def _visible(shape: Shape, limits: Limits, start: Array, first: Array) -> Array:
    """Whether each query [M] sees each key [S] of the block that begins at position `first`."""
    rows, tokens = shape.queries[2], shape.pages * shape.page
    token = jax.lax.broadcasted_iota(jnp.int32, (rows, tokens), 0) // (rows // shape.new)
    distance = start + token - first - jax.lax.broadcasted_iota(jnp.int32, (rows, tokens), 1)
    visible = distance >= 0
    return visible if limits.window is None else visible & (distance < limits.window[0])


def _capped(scores: Array, limits: Limits) -> Array:
    if limits.soft_cap is None:
        return scores
    cap = limits.soft_cap[0]
    return jnp.where(cap > 0, cap * jnp.tanh(scores / jnp.where(cap > 0, cap, 1.0)), scores)
