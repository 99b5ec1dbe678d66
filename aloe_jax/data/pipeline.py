"""Batches for training, read by Grain: each process reads only the rows of its own devices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import Mesh

from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.plan import PackPlan
from aloe_jax.parallel.mesh import row_shards
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.tree.pack import empty_row, pack, stack
from aloe_jax.tree.row import Capacity, TreeRow

if TYPE_CHECKING:
    import grain

# Log-probability of a reply under the reference model, by (conversation, node): of the whole, or of each token.
Reference = Mapping[tuple[int, int], float | np.ndarray]


def with_reference(fragment: TreeRow, reference: Reference) -> TreeRow:
    """The fragment with the reference log-probabilities of its replies; KeyError if one is missing.

    Those of single tokens are also the old policy's: the training starts from the reference model.
    """
    keys = zip(fragment.conversation.tolist(), fragment.node.tolist(), strict=True)
    found = [reference[key] for key in keys]
    filled = fragment.replace(reference=np.array([np.sum(value) for value in found], np.float32))
    if not found or np.ndim(found[0]) == 0:
        return filled
    tokens = np.concatenate(found).astype(np.float32)  # a fragment's targets stand in the order of its replies
    return filled.replace(old_log_prob=tokens, reference_log_prob=tokens)


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
        """N: enough for the largest step and the same at every step, so that one shape is compiled."""
        return -(-self.plan.most_rows // self.rows)

    def __len__(self) -> int:
        return len(self.plan.steps)

    def used(self, step: int) -> int:
        """Number of micro-batches of a step that are not empty."""
        return -(-len(self.plan.steps[step]) // self.rows)

    def tokens(self, step: int) -> int:
        """Tokens of a step without padding; a repeated trunk counts each time."""
        return sum(int(self.source.sizes[list(row), 0].sum()) for row in self.plan.steps[step])

    def row(self, step: int, number: int) -> TreeRow:
        """Row `number` of a step; rows after the last are empty."""
        rows = self.plan.steps[step]
        if number >= len(rows):
            return empty_row(self.capacity)
        fragments = [self.source[index] for index in rows[number]]
        if self.reference is not None:
            fragments = [with_reference(fragment, self.reference) for fragment in fragments]
        return pack(fragments, self.capacity)

    def local(self, step: int, owned: Sequence[int]) -> TreeRow:
        """The `owned` rows of every micro-batch of a step, stacked to [N, len(owned), ...]."""
        micro = [
            stack([self.row(step, number * self.rows + index) for index in owned])
            for number in range(self.micro_batches)
        ]
        return stack(micro)

    def iterator(self, owned: Sequence[int]) -> grain.DatasetIterator:
        """A Grain iterator over `local` of every step; its state is the step index and nothing else."""
        import grain  # takes half a second, which commands without training do not have to spend

        dataset = grain.MapDataset.range(len(self)).map(lambda step: self.local(step, owned))
        return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def micro_batch_rows(minimum: int, mesh: Mesh) -> int:
    """The smallest multiple of the mesh's row shards that is at least `minimum`."""
    shards = row_shards(mesh)
    return -(-minimum // shards) * shards


def micro_batches_of(rows: int, size: int) -> tuple[int, int]:
    """How many micro-batches of `size` rows a batch of that many is padded to, and how many of them are not empty. The
    first is a power of two, so that batches of different sizes share few compiled programs."""
    used = max(1, -(-rows // size))
    return 1 << (used - 1).bit_length(), used


@functools.cache  # called at every step, to read the rows and to place them
def owned_rows(rows: int, mesh: Mesh, process: int | None = None) -> tuple[int, ...]:
    """The rows of a micro-batch that the devices of a process (default: this one) hold, ascending. They need not be
    contiguous: a mesh follows the links between the chips of a slice, not the hosts."""
    process = jax.process_index() if process is None else process
    places = row_sharding(mesh).devices_indices_map((rows,))
    ranges = [range(*index[0].indices(rows)) for device, index in places.items() if device.process_index == process]
    return tuple(sorted(set().union(*ranges)))


def to_device(local: TreeRow, rows: int, mesh: Mesh) -> TreeRow:
    """The global batch [N, B, ...] on the mesh, from the rows of this process, [N, len(owned_rows), ...]."""
    place = {row: number for number, row in enumerate(owned_rows(rows, mesh))}

    def put(array: np.ndarray) -> jax.Array:
        def part(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[1].indices(rows)
            return array[:, place[start] : place[start] + stop - start]

        shape = (array.shape[0], rows, *array.shape[2:])
        return jax.make_array_from_callback(shape, row_sharding(mesh, leading=1), part)

    return jax.tree.map(put, local)
