"""Batches for training, read by Grain: a process reads only the rows that its devices own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.plan import PackPlan
from aloe_jax.parallel.mesh import row_shards
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.tree.pack import empty_row, pack, stack
from aloe_jax.tree.row import Capacity, TreeRow

# Log-probability of a reply under the reference model, by (conversation, node).
Reference = Mapping[tuple[int, int], float]


def with_reference(fragment: TreeRow, reference: Reference) -> TreeRow:
    """The fragment with its replies' reference log-probabilities filled in; KeyError if one is missing."""
    keys = zip(fragment.conversation.tolist(), fragment.node.tolist(), strict=True)
    return dataclasses.replace(fragment, reference=np.array([reference[key] for key in keys], np.float32))


@dataclasses.dataclass(frozen=True)
class Batches:
    """The global batches of a plan, as micro-batches [N, B, ...] of `rows` rows each."""

    source: FragmentSource
    plan: PackPlan
    capacity: Capacity
    rows: int  # B, a multiple of the mesh's row shards
    reference: Reference | None = None

    @property
    def micro_batches(self) -> int:
        """N: enough for the largest step, the same at every step, so that there is one compiled shape."""
        return -(-self.plan.most_rows // self.rows)

    def __len__(self) -> int:
        return len(self.plan.steps)

    def used(self, step: int) -> int:
        """Micro-batches of that step that hold anything."""
        return -(-len(self.plan.steps[step]) // self.rows)

    def tokens(self, step: int) -> int:
        """Tokens of that step without padding; a trunk that is repeated counts each time."""
        return sum(int(self.source.sizes[list(row), 0].sum()) for row in self.plan.steps[step])

    def row(self, step: int, number: int) -> TreeRow:
        """Row `number` of a step; rows past the last are empty."""
        rows = self.plan.steps[step]
        if number >= len(rows):
            return empty_row(self.capacity)
        fragments = [self.source[index] for index in rows[number]]
        if self.reference is not None:
            fragments = [with_reference(fragment, self.reference) for fragment in fragments]
        return pack(fragments, self.capacity)

    def local(self, step: int, first: int, last: int) -> TreeRow:
        """Rows [first, last) of every micro-batch of a step, stacked to [N, last - first, ...]."""
        micro = [
            stack([self.row(step, number * self.rows + index) for index in range(first, last)])
            for number in range(self.micro_batches)
        ]
        return stack(micro)

    def iterator(self, first: int, last: int) -> grain.DatasetIterator:
        """A Grain iterator over the steps; its state is the step index and nothing else."""
        dataset = grain.MapDataset.range(len(self)).map(lambda step: self.local(step, first, last))
        return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def rows_a_micro_batch(asked: int, mesh: Mesh) -> int:
    """The smallest multiple of the mesh's row shards that is at least `asked`."""
    shards = row_shards(mesh)
    return -(-asked // shards) * shards


def owned_rows(rows: int, mesh: Mesh) -> tuple[int, int]:
    """The range of a micro-batch's rows that this process's devices hold."""
    index_map = row_sharding(mesh).addressable_devices_indices_map((rows,))
    slices = [index[0].indices(rows) for index in index_map.values() if index is not None]
    return min(start for start, _, _ in slices), max(stop for _, stop, _ in slices)


def to_device(local: TreeRow, rows: int, mesh: Mesh) -> Any:
    """The global batch [N, B, ...] from the part that this process read."""

    def place(array: np.ndarray) -> jax.Array:
        shape = (array.shape[0], rows, *array.shape[2:])
        return jax.make_array_from_process_local_data(row_sharding(mesh, leading=1), array, shape)

    return jax.tree.map(place, local)
