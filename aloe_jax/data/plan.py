"""Which fragments go into which row of which step: a pure function, so every host computes the same plan.

The plan depends on the fragments' sizes, the seed, the epoch and the capacities, never on the mesh or the number of
hosts; a resume on another mesh sees the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from aloe_jax.errors import InputError
from aloe_jax.tree.pack import best_fit
from aloe_jax.tree.row import Capacity

Unit = Literal["conversations", "pairs"]
PAIRS = 3  # column of `sizes`


@dataclass(frozen=True)
class PackPlan:
    """`steps[s][r]` lists the fragments packed into row r of step s."""

    steps: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def most_rows(self) -> int:
        """Rows of the largest step."""
        return max(len(rows) for rows in self.steps)

    def among(self, indices: np.ndarray) -> PackPlan:
        """The same plan for a source in which fragment i of this one has the number `indices[i]`."""
        steps = tuple(tuple(tuple(int(indices[i]) for i in row) for row in rows) for rows in self.steps)
        return PackPlan(steps)

    def fill(self, sizes: np.ndarray, capacity: Capacity) -> float:
        """Share of row tokens that are real."""
        used = sum(int(sizes[list(row), 0].sum()) for rows in self.steps for row in rows)
        return used / (capacity.tokens * sum(len(rows) for rows in self.steps))


def pack_plan(
    sizes: np.ndarray,
    conversation: np.ndarray,
    capacity: Capacity,
    *,
    batch: int,
    unit: Unit,
    seed: int,
    epochs: int,
) -> PackPlan:
    """Shuffle conversations anew each epoch, fill each step with whole conversations until it counts `batch` units, and
    pack each step's fragments best-fit. `sizes` is int [N, 4], `conversation` int [N].

    For the unit "pairs" conversations without pairs are left out. Raises InputError if nothing is left or if `batch` is
    not positive.
    """
    if batch < 1:
        raise InputError(f"config.batch: {batch} must be at least 1")
    members: dict[int, list[int]] = {}
    for fragment, owner in enumerate(conversation.tolist()):
        members.setdefault(owner, []).append(fragment)
    units = {
        owner: int(sizes[fragments, PAIRS].sum()) if unit == "pairs" else 1 for owner, fragments in members.items()
    }
    owners = np.array(sorted(owner for owner, count in units.items() if count))
    if not len(owners):
        raise InputError(f"no conversation of the dataset has any {unit}; check the preferences in trees.jsonl")
    steps = []
    for epoch in range(epochs):
        current: list[int] = []
        counted = 0
        for owner in np.random.default_rng([seed, epoch]).permutation(owners).tolist():
            if counted and counted + units[owner] > batch:
                steps.append(_rows(current, sizes, capacity))
                current, counted = [], 0
            current += members[owner]
            counted += units[owner]
        steps.append(_rows(current, sizes, capacity))
    return PackPlan(tuple(steps))


def _rows(fragments: list[int], sizes: np.ndarray, capacity: Capacity) -> tuple[tuple[int, ...], ...]:
    packed = best_fit(sizes[fragments], capacity)
    return tuple(tuple(fragments[index] for index in row) for row in packed)
