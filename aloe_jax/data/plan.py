"""Which fragments go into which row of which step: a pure function, so every host computes the same plan.

The plan depends on the fragments' sizes, the seed, the epoch and the capacities, never on the mesh or the number of
hosts; a resume on another mesh sees the same batches.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from aloe_jax.data.mixture import drawn
from aloe_jax.errors import InputError
from aloe_jax.tree.pack import best_fit_in_order, check_sizes
from aloe_jax.tree.row import Capacity

Unit = Literal["conversations", "pairs"]
Row = tuple[int, ...]  # the fragments packed into it
TOKENS, PAIRS = 0, 3  # columns of `sizes`
OPEN_ROWS = 256  # rows that wait for more at a time; with more of them rows are hardly fuller
MORE_STEPS = 0.01  # share of the steps added where so few cannot hold the rows


@dataclass(frozen=True)
class PackPlan:
    """`steps[s][r]` lists the fragments packed into row r of step s."""

    steps: tuple[tuple[Row, ...], ...]

    @property
    def most_rows(self) -> int:
        """Rows of the largest step."""
        return max(len(rows) for rows in self.steps)

    @property
    def fragments(self) -> list[int]:
        """All that is packed, step by step; a fragment stands there as often as it is trained on."""
        return [index for rows in self.steps for row in rows for index in row]

    def fill(self, sizes: np.ndarray, capacity: Capacity) -> float:
        """Share of row tokens that are real."""
        used = int(sizes[self.fragments, TOKENS].sum())
        return used / (capacity.tokens * sum(len(rows) for rows in self.steps))


def pack_plan(
    sizes: Int[np.ndarray, "N 4"],
    conversation: Int[np.ndarray, " N"],
    capacity: Capacity,
    *,
    batch: int,
    unit: Unit,
    seed: int,
    epochs: int,
    origin: Int[np.ndarray, " N"] | None = None,
    weights: Sequence[float] = (1.0,),
    trained: Int[np.ndarray, " N"] | None = None,
) -> PackPlan:
    """Shuffle an epoch's conversations, pack all of them best-fit in that order, and deal the rows out into steps.

    Packing in a random order leaves rows a little less full than packing the largest first, but each row, and so each
    step, is a random draw of conversations, long and short ones alike. A step has at most `batch` units, unless a
    single conversation has more; an epoch has the fewest steps that do, and they are as equal as whole rows allow. A
    conversation that needs several rows has them all in one step.

    Args:
        sizes: (tokens, targets, replies, pairs) of each fragment.
        conversation: whose fragment it is; those of a conversation stand together.
        batch: units of a step: conversations or pairs.
        origin: the source of each fragment in a mixture, 0 by default.
        weights: how much of each source an epoch takes (`aloe_jax.data.mixture.drawn`).
        trained: what each fragment has to train on; conversations without any are left out. By default its pairs for
            the unit "pairs", else everything counts.

    Raises InputError if no conversation is left, if a fragment does not fit a row, or if `batch` is not positive.
    """
    if batch < 1:
        raise InputError(f"config.batch: {batch} must be at least 1")
    check_sizes(sizes, capacity)
    if trained is None:
        trained = sizes[:, PAIRS] if unit == "pairs" else np.ones(len(sizes), np.int64)
    sources = np.zeros(len(sizes), np.int64) if origin is None else origin
    members = _members(conversation, trained * (np.asarray(weights)[sources] > 0))
    if not members:
        what = "any pairs" if unit == "pairs" else "anything"
        raise InputError(f"no conversation of the dataset has {what} to train on; check the preferences in trees.jsonl")
    pools: list[list[int]] = [[] for _ in weights]
    for owner in sorted(members):
        pools[sources[members[owner][0]]].append(owner)
    steps: list[tuple[Row, ...]] = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        owners = rng.permutation(drawn(pools, weights, seed, epoch)).tolist()
        groups = _pack([members[owner] for owner in owners], sizes, capacity, batch, unit)
        order = rng.permutation(len(groups))
        counts = np.array([groups[index].units for index in order])
        dealt = _deal(counts, batch)
        for number in rng.permutation(len(dealt)).tolist():
            steps.append(tuple(row for at in dealt[number] for row in groups[order[at]].rows))
    return PackPlan(tuple(steps))


def _members(conversation: np.ndarray, trained: np.ndarray) -> Mapping[int, list[int]]:
    """The fragments of each conversation that has something to train on."""
    found: dict[int, list[int]] = {}
    for fragment, owner in enumerate(conversation.tolist()):
        found.setdefault(owner, []).append(fragment)
    return {owner: fragments for owner, fragments in found.items() if trained[fragments].sum()}


@dataclass(frozen=True)
class _Group:
    """Rows that belong into one step, and the units they count: one row, and the full ones of conversations that end
    in it."""

    rows: tuple[Row, ...]
    units: int


def _pack(
    conversations: Sequence[list[int]], sizes: np.ndarray, capacity: Capacity, batch: int, unit: Unit
) -> list[_Group]:
    """The conversations in rows, in groups of at most `batch` units unless one conversation has more.

    A conversation of several fragments has its smallest one packed, with all its units; the others have a row each,
    which they fill by construction. So a group is never held together by more than one row.
    """
    units = [int(sizes[fragments, PAIRS].sum()) if unit == "pairs" else 1 for fragments in conversations]
    smallest = [min(fragments, key=lambda fragment: sizes[fragment, TOKENS]) for fragments in conversations]
    # One that has more units than a step fills the unit's capacity, and so is alone in its row.
    needs = np.column_stack([sizes[smallest], np.minimum(units, batch)])
    found = []
    for row in best_fit_in_order(needs, (*dataclasses.astuple(capacity), batch), OPEN_ROWS):
        packed = tuple(smallest[index] for index in row)
        full = [(part,) for index in row for part in conversations[index] if part != smallest[index]]
        found.append(_Group((*full, packed), sum(units[index] for index in row)))
    return found


def _deal(units: np.ndarray, batch: int) -> list[list[int]]:
    """Groups (in random order) in the fewest steps of at most `batch` units; a group that has more is a step alone."""
    alone = [[index] for index in np.flatnonzero(units > batch).tolist()]
    rest = np.flatnonzero(units <= batch)
    # No two groups of more than half a batch share a step.
    steps = max(math.ceil(units[rest].sum() / batch), np.count_nonzero(2 * units[rest] > batch))
    while len(rest):
        most = math.ceil(len(rest) / steps)
        for deal in (_rounds, _largest_first):
            dealt, largest = deal(units, rest, steps)
            if largest <= batch and max(map(len, dealt)) <= most:
                return alone + dealt
        steps = min(len(rest), max(steps + 1, math.floor(steps * (1 + MORE_STEPS))))
    return alone


def _rounds(units: np.ndarray, groups: np.ndarray, steps: int) -> tuple[list[list[int]], int]:
    """The groups dealt out in rounds, in each of which a step gets one and the step with the fewest units so far the
    one with the most; and the units of the largest step. The first round is the one that may be short, so that the
    others make up for it."""
    dealt: list[list[int]] = [[] for _ in range(steps)]
    held = np.zeros(steps, np.int64)
    short = len(groups) % steps
    for turn in np.split(groups, range(short, len(groups), steps)):
        largest = turn[np.argsort(-units[turn], kind="stable")]
        takers = np.argsort(held, kind="stable")[: len(turn)]
        held[takers] += units[largest]
        for taker, group in zip(takers.tolist(), largest.tolist(), strict=True):
            dealt[taker].append(group)
    return dealt, int(held.max())


def _largest_first(units: np.ndarray, groups: np.ndarray, steps: int) -> tuple[list[list[int]], int]:
    """The groups dealt out one by one, the one with the most units first, to the step with the fewest so far; and the
    units of the largest step. It finds room where rounds do not, for a few groups of few units, but does not care for
    the number of rows."""
    dealt: list[list[int]] = [[] for _ in range(steps)]
    held = [(0, step) for step in range(steps)]
    for group in groups[np.argsort(-units[groups], kind="stable")].tolist():
        count, step = held[0]
        heapq.heapreplace(held, (count + int(units[group]), step))
        dealt[step].append(group)
    return dealt, max(held)[0]
