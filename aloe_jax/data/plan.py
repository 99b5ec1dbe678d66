"""The pack plan: which fragments go into which row of which step.

A pure function of the fragments' sizes, the seed, the epoch and the capacities, not of the mesh or the number of hosts:
every host computes the same plan, and a run resumed on another mesh trains on the same batches.
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

Unit = Literal["conversations", "pairs", "replies"]
Row = tuple[int, ...]  # the fragments packed into it
TOKENS, TARGETS, REPLIES, PAIRS = range(4)  # columns of `sizes`
COUNTED: Mapping[Unit, int] = {"pairs": PAIRS, "replies": REPLIES}  # the column that has the units; a conversation is 1
OPEN_ROWS = 256  # rows that are filled at the same time; more of them hardly fill rows better
MORE_STEPS = 0.01  # share of the steps that is added while the steps cannot hold the rows


@dataclass(frozen=True)
class PackPlan:
    """`steps[s][r]` lists the fragments packed into row r of step s."""

    steps: tuple[tuple[Row, ...], ...]

    @property
    def most_rows(self) -> int:
        """Number of rows of the largest step."""
        return max(len(rows) for rows in self.steps)

    @property
    def fragments(self) -> list[int]:
        """All packed fragments, step by step; a fragment occurs as often as it is trained on."""
        return [index for rows in self.steps for row in rows for index in row]

    def fill(self, sizes: np.ndarray, capacity: Capacity) -> float:
        """Share of the rows' tokens that are not padding."""
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
    """The plan of a training: shuffle an epoch's conversations, pack them best-fit in that order, and deal the rows out
    into steps.

    Packing in random order fills rows slightly less than packing the largest first, but makes each row, and so each
    step, a random draw of long and short conversations. A step has at most `batch` units, unless a single conversation
    has more; an epoch has the minimum number of steps, and they are as equal as whole rows allow. All rows of a
    conversation are in one step.

    Args:
        sizes: (tokens, targets, replies, pairs) of each fragment.
        conversation: the conversation of each fragment; the fragments of a conversation are contiguous.
        batch: maximum units (conversations, pairs or replies) per step.
        origin: the source of each fragment in a mixture, 0 by default.
        weights: how much an epoch takes of each source (`aloe_jax.data.mixture.drawn`).
        trained: number of items to train on per fragment; conversations without any are left out. By default the
            fragment's units, 1 for the unit "conversations".

    Raises InputError if no conversation is left, if a fragment does not fit a row, or if `batch` is not positive.
    """
    if batch < 1:
        raise InputError(f"config.batch: {batch} must be at least 1")
    check_sizes(sizes, capacity)
    if trained is None:
        trained = sizes[:, COUNTED[unit]] if unit in COUNTED else np.ones(len(sizes), np.int64)
    sources = np.zeros(len(sizes), np.int64) if origin is None else origin
    members = _members(conversation, trained * (np.asarray(weights)[sources] > 0))
    if not members:
        what = {"pairs": "any pairs", "replies": "any labelled replies"}.get(unit, "anything")
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
    """The fragments of each conversation with something to train on."""
    found: dict[int, list[int]] = {}
    for fragment, owner in enumerate(conversation.tolist()):
        found.setdefault(owner, []).append(fragment)
    return {owner: fragments for owner, fragments in found.items() if trained[fragments].sum()}


@dataclass(frozen=True)
class _Group:
    """Rows that belong to the same step, and their units: one packed row, and the full rows of the conversations whose
    last part is in it."""

    rows: tuple[Row, ...]
    units: int


def _pack(
    conversations: Sequence[list[int]], sizes: np.ndarray, capacity: Capacity, batch: int, unit: Unit
) -> list[_Group]:
    """The conversations in rows, in groups of at most `batch` units unless one conversation has more.

    Of a conversation with several fragments, the smallest is packed and counts all its units; each of the others fills
    a row by construction. So at most one row of a group contains several conversations.
    """
    units = [int(sizes[fragments, COUNTED[unit]].sum()) if unit in COUNTED else 1 for fragments in conversations]
    smallest = [min(fragments, key=lambda fragment: sizes[fragment, TOKENS]) for fragments in conversations]
    # A conversation with more units than a step fills the capacity for units, and so is alone in its row.
    needs = np.column_stack([sizes[smallest], np.minimum(units, batch)])
    found = []
    for row in best_fit_in_order(needs, (*dataclasses.astuple(capacity), batch), OPEN_ROWS):
        packed = tuple(smallest[index] for index in row)
        full = [(part,) for index in row for part in conversations[index] if part != smallest[index]]
        found.append(_Group((*full, packed), sum(units[index] for index in row)))
    return found


def _deal(units: np.ndarray, batch: int) -> list[list[int]]:
    """Groups (in random order) dealt to the minimum number of steps of at most `batch` units; a larger group is a step
    of its own."""
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
    """The groups dealt out in rounds, and the units of the largest step. In each round every step gets one group, and
    the step with the fewest units so far gets the largest. The first round is the one that may be short, so that the
    others compensate for it."""
    dealt: list[list[int]] = [[] for _ in range(steps)]
    held = np.zeros(steps, np.int64)
    short = len(groups) % steps
    for turn in np.split(groups, range(short, len(groups), steps)):
        largest = turn[np.argsort(-units[turn], kind="stable")]
        receivers = np.argsort(held, kind="stable")[: len(turn)]
        held[receivers] += units[largest]
        for step, group in zip(receivers.tolist(), largest.tolist(), strict=True):
            dealt[step].append(group)
    return dealt, int(held.max())


def _largest_first(units: np.ndarray, groups: np.ndarray, steps: int) -> tuple[list[list[int]], int]:
    """The groups dealt out one by one, the largest first, each to the step with the fewest units so far; and the units
    of the largest step. This finds room for a few small groups where rounds do not, but does not balance the number of
    rows."""
    dealt: list[list[int]] = [[] for _ in range(steps)]
    held = [(0, step) for step in range(steps)]
    for group in groups[np.argsort(-units[groups], kind="stable")].tolist():
        count, step = held[0]
        heapq.heapreplace(held, (count + int(units[group]), step))
        dealt[step].append(group)
    return dealt, max(held)[0]
