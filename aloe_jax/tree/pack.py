"""Packing fragments into rows of static capacity, and rows into batches."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Int

from aloe_jax.errors import InputError
from aloe_jax.tree.row import COLUMNS, Capacity, TreeRow

_TOKENS, _, _REPLIES, _ = range(4)  # columns of a table of fragment sizes


def best_fit(sizes: Int[np.ndarray, "N 4"], capacity: Capacity) -> list[list[int]]:
    """The indices of the fragments of each row: best-fit decreasing over tokens, within all four capacities.

    Each fragment, largest first, goes into the row that it leaves with the fewest free tokens. Ties go to the lower
    index, so the plan is a pure function of its arguments.

    Args:
        sizes: (tokens, targets, replies, pairs) of each fragment, as `TreeRow.sizes` gives them.

    Raises InputError if a fragment does not fit into an empty row.
    """
    sizes = np.asarray(sizes, np.int64).reshape(-1, 4)
    check_sizes(sizes, capacity)
    order = np.argsort(-sizes[:, _TOKENS], kind="stable")
    return [[int(order[at]) for at in row] for row in best_fit_in_order(sizes[order], dataclasses.astuple(capacity))]


def best_fit_in_order(
    needs: Int[np.ndarray, "N K"], room: Sequence[int], most_open: int | None = None
) -> list[list[int]]:
    """The indices of the items of each row if every item, in order, goes into the row it leaves with the fewest free
    tokens.

    Args:
        needs: what each item takes of K capacities, tokens first; no more than `room` has.
        room: those capacities of a row.
        most_open: maximum number of rows that stay open at a time, which keeps the time linear in N; beyond it the
            fullest row is closed. By default all rows stay open.
    """
    plan: list[list[int]] = []
    free: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (free tokens, row), sorted; full rows are left out
    smallest = needs.min(axis=0, initial=max(room)).tolist()
    for index, need in enumerate(needs.tolist()):
        at = bisect.bisect_left(open_rows, (need[_TOKENS], -1))
        while at < len(open_rows) and not _covers(free[open_rows[at][1]], need):
            at += 1
        if at < len(open_rows):
            _, row = open_rows.pop(at)
        else:
            row = len(plan)
            plan.append([])
            free.append(list(room))
        free[row] = [have - used for have, used in zip(free[row], need, strict=True)]
        plan[row].append(index)
        if _covers(free[row], smallest):
            bisect.insort(open_rows, (free[row][_TOKENS], row))
            if most_open is not None and len(open_rows) > most_open:
                del open_rows[0]
    return plan


def check_sizes(sizes: Int[np.ndarray, "N 4"], capacity: Capacity) -> None:
    """Raise InputError for the first fragment that does not fit into an empty row."""
    room = dataclasses.astuple(capacity)
    too_large = np.flatnonzero((sizes > np.asarray(room)).any(axis=1))
    if too_large.size:
        index = int(too_large[0])
        raise InputError(
            f"fragment {index} needs (tokens, targets, replies, pairs) = {tuple(sizes[index].tolist())}, more than the "
            f"{room} of a row; make the fragments with the same capacity"
        )


def _covers(free: Sequence[int], need: Sequence[int]) -> bool:
    return all(have >= wanted for have, wanted in zip(free, need, strict=True))


def pack(fragments: Sequence[TreeRow], capacity: Capacity) -> TreeRow:
    """One padded row [T], [M], [R], [P, 2] of numpy arrays holding `fragments` one after the other.

    Raises InputError if together they exceed the capacity.
    """
    total = np.sum([fragment.sizes for fragment in fragments], axis=0, dtype=int) if fragments else np.zeros(4, int)
    if not capacity.holds(total.tolist()):
        raise InputError(
            f"fragments need (tokens, targets, replies, pairs) = {tuple(total.tolist())} together, a row has "
            f"{dataclasses.astuple(capacity)}; let best_fit choose what shares a row"
        )
    before = {"tokens": 0, "replies": 0, "groups": 0}
    indices = {name: column.index_of for name, column in COLUMNS.items() if column.index_of}
    placed = []
    for fragment in fragments:
        placed.append(
            fragment.replace(**{name: getattr(fragment, name) + before[kind] for name, kind in indices.items()})
        )
        before["tokens"] += fragment.sizes[_TOKENS]
        before["replies"] += fragment.sizes[_REPLIES]
        before["groups"] += int(np.max(fragment.group, initial=-1)) + 1

    def fill(padding: np.ndarray, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate([*parts, padding[sum(map(len, parts)) :]])

    return jax.tree.map(fill, empty_row(capacity), *placed)


def empty_row(capacity: Capacity) -> TreeRow:
    """A row of padding alone: its tokens attend to themselves only and it carries no loss."""
    return TreeRow(**{name: column.empty(capacity) for name, column in COLUMNS.items()})


def stack(rows: Sequence[TreeRow]) -> TreeRow:
    """A batch [B, ...] of rows of equal size."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
