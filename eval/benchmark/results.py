"""The result of a model on the benchmark: scores, metrics, and what was unscored, empty or cut off, by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypedDict

from etils import epath

from aloe_jax import files
from aloe_jax.tree.schema import Conversation, Persona, read_trees, write_records
from eval.benchmark.belief import belief_of
from eval.benchmark.cases import TREES, GivenUp, read_given_up
from eval.benchmark.dialogues import OVERALL, PERSONA, replies_of, score_of
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.restraint import by_turn_kind
from eval.benchmark.scores import SCORES, ScoreRecord

METRICS = "metrics.json"
UNREADABLE = "unreadable verdict"
COUNTED = ("empty", "truncated", "thought")  # flags of messages that are counted; replies with them are scored


class ResultCounts(TypedDict):
    """What the manifest of a result says: `average` is the mean alignment level, `unscored` the replies without a score
    and `given_up` the cases that a failing server ended, both by reason. `flags` are the replies by flag, which are
    scored all the same (an empty one at the floor, one over the limit as it stands), and behind "user" the messages of
    the simulated user."""

    cases: int
    average: float | None
    unscored: dict[str, int]
    given_up: dict[str, int]
    flags: dict[str, int]


def summarise(
    personas: Sequence[Persona], turns: int, resamples: int, seed: int, directory: epath.Path
) -> tuple[Metrics, ResultCounts]:
    """The metrics and the counts of the dialogues of `personas` in `directory`, where scores.jsonl and metrics.json are
    written. A reply that is missing is a line with score null; it never drops out of the file. Dialogues are put into
    the order of `personas`; those of other cases, if there are any, stay behind them."""
    path = directory / TREES
    trees = {tree.id: tree for tree in read_trees(path)} if path.exists() else {}
    given_up = {each.case: each for each in read_given_up(directory)}
    ordered = [trees[persona.id] for persona in personas if persona.id in trees]
    wanted = {persona.id for persona in personas}
    write_records(path, [*ordered, *(tree for tree in trees.values() if tree.id not in wanted)])
    records: list[ScoreRecord] = []
    unscored: Counter[str] = Counter()
    for persona in personas:
        found = _records(persona, trees.get(persona.id), turns)
        records += found
        for record in found:
            if record.score is None:
                unscored[_reason(record.turn, trees.get(persona.id), given_up.get(persona.id))] += 1
    lines = (files.json_line(record.model_dump(mode="json")) for record in records)
    files.write_lines(directory / SCORES, lines)
    result = metrics(records, resamples, seed).model_copy(update={"by_turn_kind": by_turn_kind(records, ordered)})
    files.write_json(directory / METRICS, result.model_dump(mode="json"))
    flags = Counter(flag for tree in ordered for flag in _flags(tree))
    reasons = Counter(given_up[persona.id].reason for persona in personas if persona.id in given_up)
    counts: ResultCounts = {
        "cases": len(personas),
        "average": result.average,
        "unscored": dict(unscored.most_common()),
        "given_up": dict(reasons.most_common()),
        "flags": dict(flags.most_common()),
    }
    return result, counts


def _records(persona: Persona, tree: Conversation | None, turns: int) -> list[ScoreRecord]:
    replies = replies_of(tree)[:turns] if tree else []
    nodes = [*replies, *(None for _ in range(turns - len(replies)))]
    return [
        ScoreRecord(
            case=persona.id,
            profile=persona.profile,
            personality=persona.personality,
            turn=turn,
            score=score_of(node, OVERALL) if node else None,
            score_persona=score_of(node, PERSONA) if node else None,
            belief=belief_of(tree, node) if tree and node else None,
        )
        for turn, node in enumerate(nodes, start=1)
    ]


def _flags(tree: Conversation) -> Iterator[str]:
    """The flags of the replies under test that are counted, and of the user's messages as "user truncated"."""
    for node in (*(node for node in tree.dialogue if node.role == "user"), *replies_of(tree)):
        yield from (f"user {flag}" if node.role == "user" else flag for flag in node.flags if flag in COUNTED)


def _reason(turn: int, tree: Conversation | None, given_up: GivenUp | None) -> str:
    """Why a reply has no score."""
    if tree is not None and turn <= len(replies_of(tree)):
        return UNREADABLE
    return given_up.reason if given_up else "not played"
