"""The walk of the kernels in `tpu_attention.py` over the running blocks: grid, blocks of each operand, `pallas_call`.

The grid is the block table, prefetched into scalar memory, with one step per running block: a block that is visible to
no query is not a step, so it costs neither arithmetic nor a copy.

Axes: B rows, T tokens, H query heads, G key heads, R = H // G query heads per key head, K head width, S tokens per
block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from aloe_jax.ops.block_table import BlockTable, block_table, running_blocks, table_block

Ref = Any  # a block in VMEM or scalar memory, inside a kernel


class Mask(NamedTuple):
    """The marks of every token that the mask depends on, and the two scalars of a layer."""

    end: Int[Array, "B T"]
    positions: Int[Array, "B T"]
    window: Int[Array, ""] | None
    soft_cap: Float[Array, ""] | None


class KernelOptions(NamedTuple):
    scale: float
    interpret: bool


class Seen(NamedTuple):
    """Marks of a block of keys and of one of queries, [1,S] each; positions only with a window."""

    end: Ref
    key_position: Ref | None
    query_position: Ref | None


class Limits(NamedTuple):
    """Scalars of the layer, one element each, in scalar memory; None where no layer has one."""

    window: Ref | None
    soft_cap: Ref | None


class Step(NamedTuple):
    """The inputs of a kernel at one step besides its blocks."""

    query: Int[Array, ""]  # row index of the first query
    key: Int[Array, ""]  # and of the first key
    begins: Any  # whether the home block begins here
    ends: Any
    seen: Seen
    limits: Limits
    scale: float


Placed = Sequence[tuple[Any, pl.BlockSpec]]  # arrays (for outputs their shapes) with the blocks that they are cut into


class Kernel(NamedTuple):
    """`body(at, *inputs, *outputs, *scratch, position)` for one step; `position` is a column, None without a window."""

    name: str
    body: Callable[..., None]
    products: int  # number of products of two blocks, for the cost estimate
    scratch: tuple[Any, ...]


def run(kernel: Kernel, walk: Walk, mask: Mask, options: KernelOptions, inputs: Placed, outputs: Placed) -> list[Array]:
    """The outputs of the kernel, computed over the running blocks."""
    table, count = block_table(running_blocks(mask.end, mask.positions, mask.window, walk.block), walk.by_key)
    windowed = mask.window is not None
    limits = Limits(
        jnp.asarray(mask.window, jnp.int32).reshape(1) if windowed else None,
        None if mask.soft_cap is None else jnp.asarray(mask.soft_cap, jnp.float32).reshape(1),
    )
    positions = mask.positions[:, None] if windowed else None
    of_keys, of_queries = walk.marks(1), walk.marks(0)
    seen_specs = Seen(of_keys, of_keys if windowed else None, of_queries if windowed else None)

    def body(table: BlockTable, limits: Limits, seen: Seen, *refs: Ref) -> None:
        kernel.body(walk.step(table, limits, seen, options.scale), *refs)

    call = pl.pallas_call(
        body,
        name=f"tree_attention_{kernel.name}",
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=walk.grid(count),
            in_specs=(seen_specs, *(spec for _, spec in inputs)),
            out_specs=[spec for _, spec in outputs],
            scratch_shapes=(*kernel.scratch, walk.column(jnp.int32) if windowed else None),
        ),
        out_shape=[jax.ShapeDtypeStruct(array.shape, array.dtype) for array, _ in outputs],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary" if walk.by_key else "parallel", "arbitrary")
        ),
        cost_estimate=walk.cost(kernel.products, table.row.shape[0], inputs[0][0].dtype.itemsize),
        interpret=options.interpret,
    )
    return call(table, limits, Seen(mask.end[:, None], positions, positions), *(array for array, _ in inputs))


@dataclass(frozen=True)
class Walk:
    """A kernel's walk along the block table: the grid, and the query and key blocks at each of its points.

    By query the grid is (G, R, entries), by key (G, entries, R): a home block of keys sums the gradients of all R query
    heads that share it.
    """

    groups: int
    members: int  # R
    block: int
    width: int
    by_key: bool

    @classmethod
    def over(cls, q: Float[Array, "B H T K"], k: Float[Array, "B G T K"], by_key: bool) -> Walk:
        groups = k.shape[1]
        return cls(groups, q.shape[1] // groups, table_block(q.shape[2]), q.shape[3], by_key)

    def grid(self, count: Int[Array, ""]) -> tuple[Any, ...]:
        return (self.groups, count, self.members) if self.by_key else (self.groups, self.members, count)

    def unpack(self, first: Any, second: Any, third: Any) -> tuple[Any, Any, Any]:
        """(group, member, entry of the table) from the grid's three indices."""
        return (first, third, second) if self.by_key else (first, second, third)

    def place(self, *point: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """(row, head, block) of the queries and of the keys. `point` is the grid's three indices, then the prefetched
        table and limits, as index maps receive them."""
        group, member, entry = self.unpack(*point[:3])
        table: BlockTable = point[3]
        row, home, other = table.row[entry], table.home[entry], table.other[entry]
        query, key = (other, home) if self.by_key else (home, other)
        return (row, group * self.members + member, query), (row, group, key)

    def step(self, table: BlockTable, limits: Limits, seen: Seen, scale: float) -> Step:
        """The step at the current point of the grid; called inside a kernel."""
        point = [pl.program_id(axis) for axis in range(3)]
        (_, _, query), (_, _, key) = self.place(*point, table)
        _, member, entry = self.unpack(*point)
        begins, ends = table.first[entry] == 1, table.last[entry] == 1
        if self.by_key:
            begins, ends = begins & (member == 0), ends & (member == self.members - 1)
        return Step(query * self.block, key * self.block, begins, ends, seen, limits, scale)

    @property
    def query(self) -> pl.BlockSpec:
        return pl.BlockSpec((None, None, self.block, self.width), lambda *point: (*self.place(*point)[0], 0))

    @property
    def key(self) -> pl.BlockSpec:
        return pl.BlockSpec((None, None, self.block, self.width), lambda *point: (*self.place(*point)[1], 0))

    @property
    def query_lanes(self) -> pl.BlockSpec:
        """Blocks of one value per query and head, [B,H,1,T]."""

        def index(*point: Any) -> tuple[Any, ...]:
            row, head, block = self.place(*point)[0]
            return row, head, 0, block

        return pl.BlockSpec((None, None, 1, self.block), index)

    def marks(self, side: int) -> pl.BlockSpec:
        """Blocks of one value per token, [B,1,T], of the queries (`side` 0) or the keys (1)."""

        def index(*point: Any) -> tuple[Any, ...]:
            row, _, block = self.place(*point)[side]
            return row, 0, block

        return pl.BlockSpec((None, 1, self.block), index)

    def sums(self) -> Any:
        return pltpu.VMEM((self.block, self.width), jnp.float32)

    def column(self, dtype: Any = jnp.float32) -> Any:
        return pltpu.VMEM((self.block, 1), dtype)

    def cost(self, products: int, entries: int, itemsize: int) -> pl.CostEstimate:
        """The cost of the whole causal half, for XLA's scheduler and cost analysis: the running blocks are not known at
        compile time."""
        steps = self.groups * self.members * entries
        return pl.CostEstimate(
            flops=steps * products * 2 * self.block**2 * self.width,
            transcendentals=steps * self.block**2,
            bytes_accessed=steps * 2 * self.block * self.width * itemsize,  # two blocks per step
        )
