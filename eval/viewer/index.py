"""A light index over the trees of a run: a summary of each and where its line stands. A tree itself is read again when
somebody opens it, so thousands of long ones cost little memory and little time."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from aloe_jax.errors import InputError
from eval.viewer.tail import GrowingFile, Line, parse

TREES, REJECTS, PERSONAS = "trees.jsonl", "rejects.jsonl", "personas.jsonl"
MESSAGE_CHARACTERS = 100  # of each user message, for the search
# Most of a line are ids and log-probabilities of tokens, of which nothing is shown; cutting these lists of numbers out
# is several times faster than parsing them. No text holds such a key: quotes in it stand behind a backslash.
_LISTS = tuple(b'"%s":%s[' % (name, space) for name in (b"token_ids", b"logprobs") for space in (b" ", b""))


@dataclass(frozen=True)
class Summary:
    """What the list shows of a tree and what it can be filtered by.

    `line` is its line in the file, from 1. Margins are of the preferences and never negative, `value` the mean of the
    judge's scores of the replies; they are None where there are none. `flags` counts the nodes that carry each flag.
    """

    line: int
    id: str
    persona: str | None
    profile: str | None
    personality: str | None
    turns: int
    replies: int
    preferences: int
    mean_margin: float | None
    least_margin: float | None
    value: float | None
    flags: Mapping[str, int]
    text: str


@dataclass(frozen=True)
class Part:
    """Some summaries in file order, whether there are `more`, which `version` of the file they are of (another one
    after it was replaced), and the lines known to be broken: no tree, or an id that stood before."""

    trees: Sequence[Summary]
    more: bool
    version: int
    broken: Sequence[int]


class TreeIndex:
    """The trees of a run directory or of a `trees.jsonl`, with rejects and personas where there are any.

    `root` is the folder that all of it lies in and that labels are written to. At first only the first tree is read,
    InputError if there is none; every method reads as much of the files as it needs and is new, and may be called from
    any thread.
    """

    def __init__(self, directory: Path) -> None:
        path = _trees_file(directory)
        self.root = path.parent if directory.is_file() else directory
        self._trees = GrowingFile(path)
        self._rejects = GrowingFile(path.parent / REJECTS)
        self._personas = GrowingFile(self.root / "personas" / PERSONAS)
        self._lock = threading.Lock()
        self._version = 0
        self._broken: list[int] = []
        self._summaries: dict[int, Summary] = {}
        self._places: dict[int, tuple[int, int]] = {}  # line -> offset and length
        self._line_of: dict[str, int] = {}
        self._reject_places: dict[str, list[tuple[int, int]]] = {}
        self._pool: dict[str, dict[str, Any]] = {}
        _require_a_tree(path)

    def part(self, after: int = 0, most: int | None = None) -> Part:
        """The trees behind line `after`, at most `most` of them, so that the first ones of a long file are there at
        once. All of them if neither is given."""
        with self._lock:
            self._refresh_trees(after, most)
            found = [summary for line, summary in self._summaries.items() if line > after][:most]
            last = found[-1].line if found else after
            more = self._trees.changed() or any(line > last for line in reversed(self._summaries))
            return Part(found, more, self._version, list(self._broken))

    def reject_counts(self) -> dict[str, int]:
        """How many rejects each conversation has."""
        with self._lock:
            self._refresh_rejects()
            return {name: len(places) for name, places in self._reject_places.items()}

    def line_of(self, conversation: str) -> int | None:
        """The line of the conversation with that id, None if there is none."""
        with self._lock:
            self._refresh_trees()
            return self._line_of.get(conversation)

    def tree(self, line: int) -> dict[str, Any] | None:
        """The record on that line, token ids and log-probabilities replaced by their number; None if there is none (any
        more).

        A persona of which the tree has the id alone is filled in from the run's personas.
        """
        with self._lock:
            self._refresh_trees()
            place = self._places.get(line)
            if place is None:
                return None
            try:
                tree = _without_tokens(parse(self._trees.at(*place)))
            except ValueError:  # replaced since the refresh
                return None
            persona = tree.get("persona") or {}
            if persona and not persona.get("facts") and not persona.get("traits"):
                self._refresh_personas()
                tree["persona"] = {**self._pool.get(persona["id"], {}), **persona}
            return tree

    def rejects(self, conversation: str) -> list[dict[str, Any]]:
        """What was rejected while the conversation grew, in file order."""
        with self._lock:
            self._refresh_rejects()
            places = self._reject_places.get(conversation, ())
            return [parse(self._rejects.at(*place)) for place in places]

    def _refresh_trees(self, after: int = 0, most: int | None = None) -> None:
        """Read on to the end, or until `most` trees behind line `after` are known."""
        if not self._trees.changed():
            return
        if self._trees.restarted():
            self._version += 1
            for kept in (self._summaries, self._places, self._line_of, self._broken):
                kept.clear()
        known = sum(line > after for line in self._summaries)
        if most is not None and known >= most:
            return
        for line in self._trees.lines():
            summary = _summary(line)
            if summary is None or summary.id in self._line_of:
                self._broken.append(line.number)
                continue
            self._summaries[line.number] = summary
            self._places[line.number] = (line.offset, len(line.data))
            self._line_of[summary.id] = line.number
            known += 1
            if known == most:
                return

    def _refresh_rejects(self) -> None:
        if not self._rejects.changed():
            return
        if self._rejects.restarted():
            self._reject_places.clear()
        for line in self._rejects.lines():
            record = _object(line)
            if isinstance(name := record.get("conversation"), str):
                self._reject_places.setdefault(name, []).append((line.offset, len(line.data)))

    def _refresh_personas(self) -> None:
        if not self._personas.changed():
            return
        if self._personas.restarted():
            self._pool.clear()
        for line in self._personas.lines():
            record = _object(line)
            if isinstance(name := record.get("id"), str):
                self._pool[name] = record


def _trees_file(directory: Path) -> Path:
    if directory.is_file():
        return directory
    if not directory.exists():
        raise InputError(f"'{directory}' does not exist; give a run directory of this machine or a {TREES}")
    for path in (directory / "conversations" / TREES, directory / TREES):
        if path.is_file():
            return path
    raise InputError(
        f"'{directory}' has no conversations/{TREES}; make one with `aloe run --stages=personas,conversations`"
    )


def _require_a_tree(path: Path) -> None:
    broken = []
    for line in GrowingFile(path).lines():
        if _summary(line) is not None:
            return
        broken.append(line.number)
    trouble = f"line {broken[0]} is not a conversation" if broken else "no whole line yet"
    raise InputError(f"{path} has no tree to show: {trouble}")


def _object(line: Line) -> dict[str, Any]:
    try:
        value = parse(line.data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _summary(line: Line) -> Summary | None:
    """None for a line that is not a conversation. The schema's own reader would be exact and far too slow here."""
    try:
        return _summarise(line.number, parse(_without_lists(line.data)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _without_lists(line: bytes) -> bytes:
    for key in _LISTS:
        head, *rest = line.split(key)
        if rest:
            line = b'"cut":0'.join([head, *(part[part.index(b"]") + 1 :] for part in rest)])
    return line


def _summarise(number: int, tree: dict[str, Any]) -> Summary:
    persona = tree.get("persona") or {}
    depth: dict[str | None, int] = {None: 0}
    values, said, replies = [], [], 0
    flags: dict[str, int] = {}
    for node in tree["nodes"]:
        role, above = node["role"], depth[node.get("parent")]
        if role == "assistant":
            replies += 1
            values.append(judged(node))
        elif role == "user":
            above += 1
            said.append(" ".join(node["text"].split())[:MESSAGE_CHARACTERS])
        depth[node["id"]] = above
        for flag in node.get("flags", ()):
            flags[flag] = flags.get(flag, 0) + 1
    scored = [value for value in values if value is not None]
    margins = [abs(pair.get("margin", 1.0)) for pair in tree.get("preferences", ())]
    return Summary(
        line=number,
        id=str(tree["id"]),
        persona=persona.get("id"),
        profile=persona.get("profile"),
        personality=persona.get("personality"),
        turns=max(depth.values()),
        replies=replies,
        preferences=len(margins),
        mean_margin=round(fmean(margins), 4) if margins else None,
        least_margin=round(min(margins), 4) if margins else None,
        value=round(fmean(scored), 4) if scored else None,
        flags=flags,
        text="\n".join(said),
    )


def judged(node: Mapping[str, Any]) -> float | None:
    """The judge's score of a reply: the one called overall, else the only one, else its value in the tree."""
    scores: Sequence[Mapping[str, Any]] = node.get("scores", ())
    for score in scores:
        if score["criterion"] == "overall":
            return score["value"]
    return scores[0]["value"] if len(scores) == 1 else node.get("value")


def _without_tokens(tree: dict[str, Any]) -> dict[str, Any]:
    for node in tree["nodes"]:
        node.pop("logprobs", None)
        if (ids := node.pop("token_ids", None)) is not None:
            node["tokens"] = len(ids)
    return tree
