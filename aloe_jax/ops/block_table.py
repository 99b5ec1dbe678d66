"""The list of the blocks of the attention matrix that a kernel computes, made from `subtree_end` on the chip.

A row of T tokens is cut into N blocks of S tokens. Block (query n, key m) of a row runs iff some query in n attends to
some key in m. The others are not listed, so a kernel whose grid is the list spends neither a step nor a copy on them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

BLOCKS = (512, 256, 128)  # tokens; the largest that divides the row is used


class BlockTable(NamedTuple):
    """The running blocks in the order in which a kernel computes them, L entries of which `count` are used.

    A kernel accumulates over one home block (the output of its queries, or the gradient of its keys) while the blocks
    of the other side pass by; `first` and `last` are 1 where a home block begins and ends.
    """

    row: Int[Array, L]
    home: Int[Array, L]
    other: Int[Array, L]
    first: Int[Array, L]
    last: Int[Array, L]


def table_block(length: int) -> int:
    """The block size for a row of `length` tokens. Raises ValueError if that is not a multiple of 128."""
    block = next((size for size in BLOCKS if length % size == 0), None)
    if block is None:
        raise ValueError(f"row of {length} tokens: the TPU kernel needs a multiple of {BLOCKS[-1]}")
    return block


def running_blocks(
    subtree_end: Int[Array, "B T"], positions: Int[Array, "B T"] | None, window: Int[Array, ""] | None, block: int
) -> Bool[Array, "B N N"]:
    """Whether block (query n, key m) runs.

    Exact without a window: what any query of a later block attends to in m, its first query attends to as well. With
    a window an upper bound, from the shallowest query and the deepest key; positions are read only then. The diagonal
    always runs, since a token attends to itself.
    """
    by_block = (subtree_end.shape[0], -1, block)
    reach = subtree_end.reshape(by_block).max(axis=-1)
    number = jnp.arange(reach.shape[1])
    running = (reach[:, None, :] > number[:, None] * block) & (number < number[:, None])
    if window is not None:
        assert positions is not None, "a window is counted in positions"
        depths = positions.reshape(by_block)
        running &= depths.min(axis=-1)[:, :, None] - depths.max(axis=-1)[:, None, :] < window
    return running | (number == number[:, None])


def block_table(running: Bool[Array, "B N N"], by_key: bool) -> tuple[BlockTable, Int[Array, ""]]:
    """The running blocks as a list, and their number: row by row and query block by query block, or with `by_key` key
    block by key block. The entries behind the used ones are undefined."""
    batch, blocks, _ = running.shape
    lines = (running.swapaxes(1, 2) if by_key else running).reshape(-1, blocks)  # one per home block, none empty
    through = jnp.cumsum(lines, axis=1, dtype=jnp.int32)  # running blocks of the line up to and including each
    start = jnp.cumsum(through[:, -1]) - through[:, -1]
    # Counting instead of sorting: a sort of some ten thousand entries takes XLA seconds to compile for a TPU.
    entry = jnp.arange(batch * blocks * (blocks + 1) // 2, dtype=jnp.int32)  # at most the causal half
    line = jnp.sum(start <= entry[:, None], axis=1, dtype=jnp.int32) - 1
    other = jnp.sum(through[line] <= (entry - start[line])[:, None], axis=1, dtype=jnp.int32)
    count = running.sum(dtype=jnp.int32)
    first = (entry == start[line]).astype(jnp.int32)
    last = (entry - start[line] == through[line, -1] - 1).astype(jnp.int32)
    return BlockTable(line // blocks, line % blocks, other, first, last), count
