"""The counts of grown conversations, as their manifest has them."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from aloe_jax import files
from aloe_jax.tree.schema import Conversation, read_trees
from data_gen.calls.tally import Tally
from data_gen.players.trials import JudgeTrials
from data_gen.run_files import JUDGE, TREES


class Dropped(TypedDict):
    """Replies that no training uses."""

    empty: int
    never_compared: int


class KindCounts(TypedDict):
    """Replies of one condition: how many, in how many preferences, and in how many of these preferred."""

    replies: int
    preferences: int
    preferred: int


class TreeCounts(TypedDict):
    """What trees hold; `thoughts` are the messages that thoughts were cut out of, `mean_score` and `kinds` are by
    condition."""

    trees: int
    replies: int
    preferences: int
    truncated: int
    thoughts: int
    mean_score: dict[str, float]
    kinds: dict[str, KindCounts]
    dropped: Dropped


class JudgeCounts(TypedDict):
    """The judge's comparisons of two replies; `flip_rate` is None if none was readable."""

    compared: int
    unreadable: int
    flip_rate: float | None
    trials: JudgeTrials


class GrowthCounts(TreeCounts):
    """What was grown, what was turned down (`rejects`, by guard), how many conversations were `given_up` and why, and
    how the judge did."""

    wanted: int
    given_up: int
    given_up_because: dict[str, int]
    rejects: dict[str, int]
    judge: JudgeCounts


def conversation_counts(directory: Path, wanted: int) -> GrowthCounts:
    """Counts of the grown conversations in a folder, `wanted` of which were to be accepted."""
    tally = Tally.of(directory)
    readable = tally.compared - tally.unreadable
    return {
        **tree_counts(directory / TREES),
        "wanted": wanted,
        "given_up": tally.given_up,
        "given_up_because": dict(tally.reasons.most_common()),
        "rejects": dict(tally.rejects.most_common()),
        "judge": {
            "compared": tally.compared,
            "unreadable": tally.unreadable,
            "flip_rate": round(tally.flipped / readable, 3) if readable else None,
            "trials": files.read_json(directory / JUDGE),
        },
    }


def tree_counts(path: Path) -> TreeCounts:
    """Counts of a trees.jsonl, with one tree in memory at a time."""
    totals = dict.fromkeys(("trees", "replies", "preferences", "truncated", "thoughts", "empty", "compared"), 0)
    scores: dict[str, tuple[float, int]] = {}
    kinds: dict[str, KindCounts] = {}
    for tree in read_trees(path):
        _add(tree, totals, scores)
        _add_kinds(tree, kinds)
    return {
        "trees": totals["trees"],
        "replies": totals["replies"],
        "preferences": totals["preferences"],
        "truncated": totals["truncated"],
        "thoughts": totals["thoughts"],
        "mean_score": {condition: round(total / count, 3) for condition, (total, count) in sorted(scores.items())},
        "kinds": dict(sorted(kinds.items())),
        "dropped": {"empty": totals["empty"], "never_compared": totals["replies"] - totals["compared"]},
    }


def _add(tree: Conversation, totals: dict[str, int], scores: dict[str, tuple[float, int]]) -> None:
    replies = tree.replies()
    for node in replies:
        if node.condition is not None and node.value is not None:
            total, count = scores.get(node.condition, (0.0, 0))
            scores[node.condition] = (total + node.value, count + 1)
    totals["trees"] += 1
    totals["replies"] += len(replies)
    totals["preferences"] += len(tree.preferences)
    totals["truncated"] += sum("truncated" in node.flags for node in replies)
    totals["thoughts"] += sum("thought" in node.flags for node in tree.nodes)
    totals["empty"] += sum("empty" in node.flags for node in replies)
    totals["compared"] += len({name for pair in tree.preferences for name in (pair.chosen, pair.rejected)})


def _add_kinds(tree: Conversation, kinds: dict[str, KindCounts]) -> None:
    named = {node.id: node.condition for node in tree.replies() if node.condition is not None}
    for condition in named.values():
        kinds.setdefault(condition, {"replies": 0, "preferences": 0, "preferred": 0})["replies"] += 1
    for pair in tree.preferences:
        for name in {pair.chosen, pair.rejected} & named.keys():
            kinds[named[name]]["preferences"] += 1
            kinds[named[name]]["preferred"] += name == pair.chosen
