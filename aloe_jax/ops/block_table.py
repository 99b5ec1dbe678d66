"""Which blocks of the attention matrix a kernel computes: the list it walks over, made from `subtree_end` on the chip.

A row of T tokens is cut into N blocks of S tokens. Block (query n, key m) of a row runs iff some query in n sees some
key in m; the others are not on the list, so a kernel whose grid is the list spends neither a step nor a copy on them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

BLOCKS = (512, 256, 128)  # tokens; the widest that divides the row is taken


class BlockTable(NamedTuple):
    """The running blocks in the order in which a kernel computes them, L entries of which `count` are used.

    A kernel keeps one block at home (the queries whose output it sums up, or the keys whose gradient) while the others
    pass by; `first` and `last` are 1 where a home block begins and ends.
    """

    row: Int[Array, L]
    home: Int[Array, L]
    other: Int[Array, L]
    first: Int[Array, L]
    last: Int[Array, L]


def table_block(length: int) -> int:
    """Tokens a block for a row of `length` tokens. ValueError if that is not a multiple of 128."""
    block = next((size for size in BLOCKS if length % size == 0), None)
    if block is None:
        raise ValueError(f"row of {length} tokens: the TPU kernel needs a multiple of {BLOCKS[-1]}")
    return block


def running_blocks(
    subtree_end: Int[Array, "B T"], positions: Int[Array, "B T"] | None, window: Int[Array, ""] | None, block: int
) -> Bool[Array, "B N N"]:
    """Whether block (query n, key m) runs.

    Without a window exact: what any query of a later block sees in m, its first one sees too. With a window an upper
    bound: the shallowest query is held against the deepest key; only then positions are read. The diagonal always runs,
    since a token sees itself.
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
    """The running blocks as a list, and how many they are: row by row and query block by query block, or with `by_key`
    key block by key block. What stands behind the used entries means nothing."""
    batch, blocks, _ = running.shape
    lines = (running.swapaxes(1, 2) if by_key else running).reshape(-1, blocks)  # one a home block, none empty
    through = jnp.cumsum(lines, axis=1, dtype=jnp.int32)  # running blocks of the line up to and including each
    start = jnp.cumsum(through[:, -1]) - through[:, -1]
    # Counting instead of sorting: a sort of some ten thousand entries takes XLA seconds to compile for a TPU.
    entry = jnp.arange(batch * blocks * (blocks + 1) // 2, dtype=jnp.int32)  # the causal half is the most there can be
    line = jnp.sum(start <= entry[:, None], axis=1, dtype=jnp.int32) - 1
    other = jnp.sum(through[line] <= (entry - start[line])[:, None], axis=1, dtype=jnp.int32)
    count = running.sum(dtype=jnp.int32)
    first = (entry == start[line]).astype(jnp.int32)
    last = (entry - start[line] == through[line, -1] - 1).astype(jnp.int32)
    return BlockTable(line // blocks, line % blocks, other, first, last), count
