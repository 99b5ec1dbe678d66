"""The blocks of stored tensors that make up the shards of a parameter.

Stored coordinates are the layer axis (of size 1 for a parameter without one), then the axes of the tensor of one layer
in the order of its file, slowest first. So a block is read in the order of the file, and our layout is a transposed
view of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from aloe_jax.hub.byte_ranges import Index
from aloe_jax.models.config import Weight

Item = TypeVar("Item")


@dataclass(frozen=True)
class Stored:
    """The layout of a parameter in its files: `shape` in stored coordinates; `order[n]` is the stored axis of its axis
    n. Along stored axis 1 the parameter begins at `first` in a tensor of size `whole`, which may hold others too."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    first: int
    whole: int

    def to_param(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """A shape or an index by stored axis, reordered to parameter axes."""
        return tuple(items[axis] for axis in self.order)

    def index(self, param_index: Index) -> Index:
        """An index of the parameter in stored coordinates, with a start and a stop for every axis."""
        found = dict(zip(self.order, param_index, strict=True))
        return tuple(slice(*found.get(axis, slice(None)).indices(size)[:2]) for axis, size in enumerate(self.shape))

    def in_tensor(self, block: Index) -> tuple[tuple[int, ...], Index]:
        """The shape of a layer's whole tensor by stored axis, and the index in it of a block in stored coordinates."""
        _, rows, *rest = block
        moved = slice(rows.start + self.first, rows.stop + self.first)
        return (self.whole, *self.shape[2:]), (moved, *rest)

    def view(self, block: np.ndarray) -> np.ndarray:
        """A block in stored coordinates as a view with the axes of the parameter."""
        return block.transpose(self.order) if 0 in self.order else block[0].transpose([axis - 1 for axis in self.order])


@dataclass(frozen=True)
class Piece:
    """A part at the same place in every shard of a parameter: its start and its size by stored axis."""

    start: tuple[int, ...]
    size: tuple[int, ...]

    def of(self, shard: Index) -> Index:
        """The index of this piece of one shard."""
        return tuple(
            slice(part.start + start, part.start + start + size)
            for part, start, size in zip(shard, self.start, self.size, strict=True)
        )


def stored(weight: Weight, layers: int | None) -> Stored:
    """The layout in its files of `weight`'s parameter, stacked over `layers` unless None.

    It is derived from the place and the strides of an array of bytes that went through `to_param`. Raises TypeError for
    a `to_param` that does more than take adjacent rows of the tensor and split and transpose axes.
    """
    probe = np.empty(weight.shape, np.uint8)  # never touched, so it takes no memory
    view = weight.to_param(probe)
    axes = sorted(range(view.ndim), key=lambda axis: -view.strides[axis])
    shape = tuple(view.shape[axis] for axis in axes)
    row = math.prod(shape[1:])
    before = view.ctypes.data - probe.ctypes.data
    one_run = np.may_share_memory(view, probe) and view.transpose(axes).flags.c_contiguous
    if not one_run or before % row or probe.size % row:
        raise TypeError(f"to_param of '{weight.name}' must be a view of whole rows that splits and transposes axes")
    order = tuple(1 + axes.index(axis) for axis in range(view.ndim))
    order = order if layers is None else (0, *order)
    return Stored((layers or 1, *shape), order, before // row, probe.size // row)


def pieces(shard: Sequence[int], width: int, most: int) -> Iterator[Piece]:
    """Pieces that cover shards of the shape `shard`: a single one, or several of one layer each, cut along the slowest
    axis of the file. They have at most `most` bytes as far as whole rows allow; `width` is the number of bytes of an
    element in all shards together."""
    if width * math.prod(shard) <= most:
        yield Piece((0,) * len(shard), tuple(shard))
        return
    layers, rows, *rest = shard
    height = max(1, min(rows, most // max(1, width * math.prod(rest))))
    for layer in range(layers):
        for row in range(0, rows, height):
            yield Piece((layer, row, *(0 for _ in rest)), (1, min(height, rows - row), *rest))


def merged(blocks: Iterable[Index]) -> list[Index]:
    """The disjoint `blocks` with adjacent ones joined, for longer runs to read."""
    found = {tuple((part.start, part.stop) for part in block) for block in blocks}
    for axis in range(len(next(iter(found)))):
        joined: list[tuple[tuple[int, int], ...]] = []
        for block in sorted(found, key=lambda block: (block[:axis], block[axis + 1 :], block[axis])):
            begin = block[axis][0]
            if joined and (*joined[-1][:axis], *joined[-1][axis + 1 :]) == (*block[:axis], *block[axis + 1 :]):
                first, last = joined[-1][axis]
                if last == block[axis][0]:
                    begin = first
                    joined.pop()
            joined.append((*block[:axis], (begin, block[axis][1]), *block[axis + 1 :]))
        found = set(joined)
    return [tuple(slice(*part) for part in block) for block in sorted(found)]


def cut(block: Index, arrays: Iterable[tuple[Index, np.ndarray]]) -> np.ndarray:
    """A view of `block` in the array of the larger block that contains it. Raises KeyError if none does."""
    for outer, array in arrays:
        if all(whole.start <= part.start and part.stop <= whole.stop for part, whole in zip(block, outer, strict=True)):
            return array[
                tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(block, outer, strict=True)
                )
            ]
    raise KeyError(f"no array holds block {block}")
