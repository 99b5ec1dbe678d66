"""The part of a fragment that an objective trains on: its replies, and the tokens that these replies read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from aloe_jax.tree.row import COLUMNS, TreeRow

Chooses = Callable[[TreeRow], Bool[np.ndarray, " R"]]  # the replies of a fragment that an objective trains on


def weighted(fragment: TreeRow) -> Bool[np.ndarray, " R"]:
    """The replies with a weight in supervised fine-tuning."""
    return np.isin(np.arange(fragment.length.size), fragment.reply[fragment.weight > 0])


def compared(fragment: TreeRow) -> Bool[np.ndarray, " R"]:
    """The replies of pairs with a weight."""
    return np.isin(np.arange(fragment.length.size), fragment.pairs[fragment.pair_weight > 0])


def ranked(fragment: TreeRow) -> Bool[np.ndarray, " R"]:
    """The replies that have a sibling."""
    groups, counts = np.unique(fragment.group, return_counts=True)
    return np.isin(fragment.group, groups[counts > 1])


def labelled(fragment: TreeRow) -> Bool[np.ndarray, " R"]:
    """The replies that are labelled good or bad, by their record or by the pairs that they are in."""
    return fragment.label != 0


def advantaged(fragment: TreeRow) -> Bool[np.ndarray, " R"]:
    """The replies with an advantage."""
    return ~np.isnan(fragment.advantage)


def hinted(fragment: TreeRow) -> Bool[np.ndarray, " R"]:
    """The replies whose log-probability given a hint is known."""
    return np.isin(np.arange(fragment.length.size), fragment.reply[~np.isnan(fragment.hinted_log_prob)])


def pruned(fragment: TreeRow, keep: Bool[np.ndarray, " R"]) -> TreeRow:
    """The fragment with the replies of `keep` alone, the pairs of two of them, and the tokens on their paths.

    A token stays if the state of a kept target is in its subtree. What stays keeps its position on its path and its
    ancestors, so every kept reply has the log-probability that it had.
    """
    if keep.all():
        return fragment
    targets = keep[fragment.reply]
    read = np.zeros(fragment.tokens.size + 1, np.int64)
    read[fragment.source[targets] + 1] = 1
    before = np.cumsum(read)  # [T + 1], number of states of kept targets before each token
    tokens = before[fragment.subtree_end] > before[:-1]
    pairs = keep[fragment.pairs].all(axis=-1)
    kept = {"tokens": tokens, "targets": targets, "replies": keep, "pairs": pairs}
    columns = {name: getattr(fragment, name)[kept[column.axis]] for name, column in COLUMNS.items()}
    place = np.concatenate([[0], np.cumsum(tokens)])  # [T + 1], new index of each token that stays
    number = np.cumsum(keep) - 1
    columns |= {name: place[columns[name]] for name in ("subtree_end", "source")}
    columns |= {name: number[columns[name]] for name in ("reply", "pairs")}
    columns["group"] = np.unique(columns["group"], return_inverse=True)[1]
    return TreeRow(**{name: column.array(columns[name]) for name, column in COLUMNS.items()})
