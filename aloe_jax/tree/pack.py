"""Packing fragments into rows of static capacity, and rows into batches."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int

from aloe_jax.errors import InputError
from aloe_jax.tree.row import FIELDS, Capacity, TreeRow, make_row

_TOKENS, _, _REPLIES, _ = range(4)  # columns of a table of sizes


def best_fit(sizes: Int[np.ndarray, "N 4"], capacity: Capacity) -> list[list[int]]:
    """Which fragments share a row: best-fit decreasing over tokens, all four capacities respected.

    Each fragment, largest first, goes into the row it leaves the fewest tokens free in. Ties go to the lower index, so
    the plan is a pure function of its arguments.

    Args:
        sizes: (tokens, targets, replies, pairs) of each fragment, as `TreeRow.sizes` gives them.

    Returns: for each row the indices of its fragments. Raises InputError if a fragment does not fit into an empty row.
    """
    sizes = np.asarray(sizes, np.int64).reshape(-1, 4)
    check_sizes(sizes, capacity)
    order = np.argsort(-sizes[:, _TOKENS], kind="stable")
    return [[int(order[at]) for at in row] for row in best_fit_in_order(sizes[order], dataclasses.astuple(capacity))]


def best_fit_in_order(
    needs: Int[np.ndarray, "N K"], room: Sequence[int], most_open: int | None = None
) -> list[list[int]]:
    """Which items share a row if each, in the order given, goes into the row it leaves the fewest tokens free in.

    Args:
        needs: what each item takes of K capacities, tokens first; none more than `room` has.
        room: those capacities of a row.
        most_open: rows that may wait for more at a time, so that the time is linear in N; beyond it the fullest is
            closed. By default all wait.

    Returns: for each row the indices of its items.
    """
    plan: list[list[int]] = []
    free: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (free tokens, row), sorted; rows that nothing fits into are left out
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
    """InputError for the first fragment that does not fit into an empty row."""
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
    tokens = replies = groups = 0
    placed = []
    for fragment in fragments:
        placed.append(
            fragment.replace(
                subtree_end=fragment.subtree_end + tokens,
                source=fragment.source + tokens,
                reply=fragment.reply + replies,
                group=fragment.group + groups,
                pairs=fragment.pairs + replies,
            )
        )
        tokens += fragment.sizes[_TOKENS]
        replies += fragment.sizes[_REPLIES]
        groups += int(np.max(fragment.group, initial=-1)) + 1

    def fill(padding: np.ndarray, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate([*parts, padding[sum(map(len, parts)) :]])

    return jax.tree.map(fill, empty_row(capacity), *placed)


def empty_row(capacity: Capacity) -> TreeRow:
    """A row of padding alone: it attends to nothing but itself and carries no loss."""
    T, M, R, P = dataclasses.astuple(capacity)
    shapes = {"T": (T,), "M": (M,), "R": (R,), "P": (P,), "P2": (P, 2)}
    size_of = {"pairs": "P2", "pair_weight": "P", "pair_margin": "P"}
    size_of |= dict.fromkeys(("tokens", "positions", "subtree_end"), "T")
    size_of |= dict.fromkeys(("source", "target", "reply", "weight"), "M")
    filler = {"conversation": -1, "node": -1, "reply": R, "value": np.nan}
    columns = {name: np.full(shapes[size_of.get(name, "R")], filler.get(name, 0)) for name in FIELDS}
    return make_row(columns | {"subtree_end": np.arange(1, T + 1)})


def stack(rows: Sequence[TreeRow]) -> TreeRow:
    """A batch [B, ...] of equally large rows."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


@dataclass(frozen=True)
class PackStatistics:
    """How full the rows of a plan are: used room over given room, 0 to 1, for each capacity."""

    rows: int
    fragments: int
    tokens: float
    targets: float
    replies: float
    pairs: float


def statistics(plan: Sequence[Sequence[int]], sizes: Int[np.ndarray, "N 4"], capacity: Capacity) -> PackStatistics:
    """Fill of the rows that `best_fit` planned; all shares are 0 for an empty plan."""
    room = np.maximum(np.asarray(dataclasses.astuple(capacity), np.float64) * len(plan), 1)
    used = [np.asarray(sizes, np.int64).reshape(-1, 4)[list(row)].sum(axis=0) for row in plan]
    shares = np.sum(used, axis=0) / room if plan else np.zeros(4)
    return PackStatistics(len(plan), sum(map(len, plan)), *shares.tolist())
