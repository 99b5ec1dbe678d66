"""A light index of the trees of a run: a summary of each and the place of its line. A tree is read again when it is
opened, so thousands of long trees cost little memory and little time."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import cast

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import PROBE
from data_gen.run_files import TREES
from eval.viewer.json_trees import JsonPersona, JsonReject, JsonTree, judged, without_tokens
from eval.viewer.personas import has_personas, personas_file
from eval.viewer.tail import Line, TailedFile, parse

REJECTS = "rejects.jsonl"
MESSAGE_CHARACTERS = 100  # of each user message, for the search
# Most of a line is token ids and log-probabilities, which are not shown; cutting these lists out is several times
# faster than parsing them. No text contains such a key, because quotes in a text are escaped.
_LISTS = tuple(b'"%s":%s[' % (name, space) for name in (b"token_ids", b"logprobs") for space in (b" ", b""))


@dataclass(frozen=True)
class Summary:
    """A tree in the list, with what it can be filtered by.

    `line` is its line in the file, from 1. Margins are those of the preferences and never negative; `value` is the mean
    of the judge's scores of the replies; each is None if there are none. `flags` counts the nodes with each flag.
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
    """Some summaries in file order, whether there are `more`, the `version` of the file (which changes when it is
    replaced), and the broken lines so far: those that hold no tree or repeat an id."""

    trees: Sequence[Summary]
    more: bool
    version: int
    broken: Sequence[int]


class TreeIndex:
    """The trees of a run directory or of a `trees.jsonl`, with rejects and personas where there are any.

    `root` is the folder of all these files; labels are written to it. Only the first tree is read at first, with an
    InputError if there is none, unless a run directory has personas already. Every method reads as much of the new
    lines as it needs and may be called from any thread.
    """

    def __init__(self, directory: Path) -> None:
        path = _trees_file(directory)
        self.root = path.parent if directory.is_file() else directory
        self._trees = TailedFile(path)
        self._rejects = TailedFile(path.parent / REJECTS)
        self._personas = TailedFile(personas_file(self.root))
        self._lock = threading.Lock()
        self._version = 0
        self._broken: list[int] = []
        self._summaries: dict[int, Summary] = {}
        self._places: dict[int, tuple[int, int]] = {}  # line -> offset, length
        self._line_of: dict[str, int] = {}
        self._reject_places: dict[str, list[tuple[int, int]]] = {}
        self._pool: dict[str, Mapping[str, object]] = {}  # personas by id
        if directory.is_file() or not has_personas(directory):
            _require_a_tree(path)

    def part(self, after: int = 0, most: int | None = None) -> Part:
        """The trees after line `after`, at most `most` of them, so that the first trees of a long file are shown at
        once. All of them if neither is given."""
        with self._lock:
            self._refresh_trees(after, most)
            found = [summary for line, summary in self._summaries.items() if line > after][:most]
            last = found[-1].line if found else after
            more = self._trees.changed() or any(line > last for line in reversed(self._summaries))
            return Part(found, more, self._version, list(self._broken))

    def reject_counts(self) -> dict[str, int]:
        """The number of rejects of each conversation."""
        with self._lock:
            self._refresh_rejects()
            return {name: len(places) for name, places in self._reject_places.items()}

    def line_of(self, conversation: str) -> int | None:
        """The line of the conversation with that id; None if there is none."""
        with self._lock:
            self._refresh_trees()
            return self._line_of.get(conversation)

    def tree(self, line: int) -> JsonTree | None:
        """The tree on that line with the number of tokens in place of their ids and log-probabilities; None if there is
        none, or none any more. A persona given by its id alone is filled in from the run's personas."""
        with self._lock:
            self._refresh_trees()
            place = self._places.get(line)
            if place is None:
                return None
            try:
                tree = without_tokens(cast(JsonTree, parse(self._trees.at(*place))))
            except ValueError:  # replaced since the refresh
                return None
            persona = tree.get("persona")
            if persona and not persona.get("facts") and not persona.get("traits"):
                self._refresh_personas()
                tree["persona"] = cast(JsonPersona, {**self._pool.get(persona["id"], {}), **persona})
            return tree

    def rejects(self, conversation: str) -> list[JsonReject]:
        """The drafts that were rejected while the conversation grew, in file order."""
        with self._lock:
            self._refresh_rejects()
            places = self._reject_places.get(conversation, ())
            return [cast(JsonReject, parse(self._rejects.at(*place))) for place in places]

    def _refresh_trees(self, after: int = 0, most: int | None = None) -> None:
        """Read on to the end, or until `most` trees after line `after` are known."""
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
    if has_personas(directory):
        return directory / "conversations" / TREES  # where the trees will be
    raise InputError(
        f"'{directory}' has neither conversations/{TREES} nor personas; make them with "
        "`aloe run --stages=personas,conversations`"
    )


def _require_a_tree(path: Path) -> None:
    broken = []
    for line in TailedFile(path).lines():
        if _summary(line) is not None:
            return
        broken.append(line.number)
    problem = f"line {broken[0]} is not a conversation" if broken else "no whole line yet"
    raise InputError(f"{path} has no tree to show: {problem}")


def _object(line: Line) -> Mapping[str, object]:
    """The JSON object on a line; empty for any other line."""
    try:
        value = parse(line.data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _summary(line: Line) -> Summary | None:
    """The summary of a line; None if it holds no conversation. The schema's own reader would be far too slow."""
    try:
        return _summarise(line.number, cast(JsonTree, parse(_without_lists(line.data))))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _without_lists(line: bytes) -> bytes:
    for key in _LISTS:
        head, *rest = line.split(key)
        if rest:
            line = b'"cut":0'.join([head, *(part[part.index(b"]") + 1 :] for part in rest)])
    return line


def _summarise(number: int, tree: JsonTree) -> Summary:
    persona = tree.get("persona")
    depth: dict[str | None, int] = {None: 0}
    values, said, replies = [], [], 0
    flags: dict[str, int] = {}
    for node in tree["nodes"]:
        if PROBE in node.get("flags", ()):
            continue
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
        persona=persona.get("id") if persona else None,
        profile=persona.get("profile") if persona else None,
        personality=persona.get("personality") if persona else None,
        turns=max(depth.values()),
        replies=replies,
        preferences=len(margins),
        mean_margin=round(fmean(margins), 4) if margins else None,
        least_margin=round(min(margins), 4) if margins else None,
        value=round(fmean(scored), 4) if scored else None,
        flags=flags,
        text="\n".join(said),
    )
