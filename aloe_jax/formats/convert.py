"""`aloe convert`: conversations and preference data in other formats to `trees.jsonl`, pools to `personas.jsonl`, trees
to parquet."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats import keys, paper
from aloe_jax.formats.dialogue import Reader
from aloe_jax.formats.keys import Tally, given
from aloe_jax.formats.outline import tree_lines
from aloe_jax.formats.parquet import TREES_SCHEMA, write_parquet
from aloe_jax.formats.records import LAYOUTS, Forest, add_record
from aloe_jax.formats.repair import Repairs, read_values
from aloe_jax.formats.report import ConversionReport, Format, Merged, token_count, tree_count
from aloe_jax.formats.source import Row, RowError, container_of, rows
from aloe_jax.formats.swapped import swapped
from aloe_jax.tree import schema
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.template import ChatFormat

Refused = Literal["error", "drop"]
Train = Literal["assistant", "user"]
R = TypeVar("R")
_EXPECTED = f"expected trees, conversations or pools of the paper's code, or users' records ({LAYOUTS})"
_REMEDY = "; `aloe convert --refused=drop` leaves such records out and counts them"


@dataclass(frozen=True)
class Conversion:
    """The conversations of a file, and what became of its records."""

    trees: Sequence[Conversation]
    report: ConversionReport


def convert(
    source: epath.PathLike,
    out: epath.PathLike | None,
    refused: Refused = "error",
    chat: ChatFormat | None = None,
    preview: int = 0,
    tell: Callable[[str], None] = lambda line: None,
    train: Train = "assistant",
) -> ConversionReport:
    """Convert `source` (its format detected by content) and write `out` atomically; without `out`, only read it. Before
    that, `tell` is called with the lines of the first `preview` conversations.

    The `conversations.jsonl` of the paper's code and users' own records become `trees.jsonl`, pools of the paper's code
    `personas.jsonl`, trees become parquet or, from parquet, JSON lines: `out` is parquet if it ends in `.parquet`. The
    paper's files are read tolerantly; the report lists what was repaired or left out. With `chat` the report counts
    the tokens of the trees. With `train="user"` the roles of all conversations are swapped (`swapped.py`).

    Raises InputError with the line for a broken line or record of any other format, unless `refused` is "drop", for an
    unknown format, and if nothing is left to write or no conversation is there to preview.
    """
    if refused not in ("error", "drop"):
        raise InputError(f"--refused is '{refused}'; expected error or drop")
    if preview < 0:
        raise InputError(f"--preview is {preview}; expected the number of conversations to print")
    found = _detect(source)
    if found == "pool" and train == "user":
        raise InputError(f"{source} holds personas, no conversations whose user could be trained; leave out --train")
    if found == "pool":
        if preview or out is None:
            raise InputError(f"{source} holds personas, no conversations to preview; give --out without --preview")
        if _is_parquet(out):
            raise InputError(f"out is '{out}'; personas are written as JSON lines, expected a name ending in .jsonl")
        repairs = Repairs()
        values = list(_tolerant(source, repairs))
        personas = list(paper.personas(values, repairs, _pool_kind(source)))
        written = schema.write_records(out, _some(personas, source))
        return ConversionReport(found, len(values), written, written, repairs)
    conversion = _conversations(source, found, refused)
    if train == "user":
        conversion = _of_users(conversion)
    report = conversion.report
    if chat is not None:
        report = report.with_tokens(token_count(conversion.trees, chat))
    trees = _some(conversion.trees, source)
    for tree in trees[:preview]:
        for line in (*tree_lines(tree), ""):
            tell(line)
    if out is None:
        return report
    _write_trees(out, trees)
    return report


def _of_users(conversion: Conversion) -> Conversion:
    """The conversations with swapped roles."""
    trees = [found for tree in conversion.trees if (found := swapped(tree)) is not None]
    silent = len(conversion.trees) - len(trees)
    counts: dict[str, Any] = {"written": len(trees), "silent": silent, **tree_count(trees)}
    return Conversion(trees, dataclasses.replace(conversion.report, **counts))


def read_conversations(source: epath.PathLike) -> Conversion:
    """The conversations of a file in any format except a pool's, as `convert` writes them. Raises InputError as it
    does."""
    found = _detect(source)
    if found == "pool":
        raise InputError(f"{source} holds personas, no conversations; {_EXPECTED}")
    conversion = _conversations(source, found, "error")
    _some(conversion.trees, source)
    return conversion


def stream_conversations(
    source: epath.PathLike, notice: Callable[[str], None] = lambda sentence: None
) -> Iterator[Conversation]:
    """The conversations that `read_conversations` reads; those of a `trees.jsonl` one at a time, so that hundreds of
    thousands take no memory. Records of other formats, which merge, are all read first; `notice` is called with what
    was not read of them. Raises InputError as `read_conversations` does, where the broken line is reached."""
    if _detect(source) != "trees":
        conversion = read_conversations(source)
        for warning in conversion.report.warnings():
            notice(f"{source}: {warning}")
        yield from conversion.trees
        return
    reader = _TreeReader()
    for row in rows(source):
        if isinstance(row, RowError):
            raise _refused(row.where, row.reason)
        try:
            tree = reader.read(row)
        except ValueError as error:
            raise _refused(row.where, error) from None
        yield tree


def _conversations(source: epath.PathLike, found: Format, refused: Refused) -> Conversion:
    repairs = Repairs()
    if found == "reference":
        values = list(_tolerant(source, repairs))
        tally = Tally()
        trees = list(paper.conversations(values, repairs, tally))
        counts = (found, len(values), len(trees), len(trees), repairs)
        return Conversion(trees, ConversionReport(*counts, **tree_count(trees), unread=tally.unread))
    reader: _TreeReader | _RecordReader = _TreeReader() if found == "trees" else _RecordReader()
    read = kept = 0
    for row in rows(source):
        read += 1
        try:
            if isinstance(row, RowError):
                raise ValueError(row.reason)
            for repair in reader.add(row):
                repairs.repair(repair, row.number)
            kept += 1
        except ValueError as error:
            if refused == "error":
                raise _refused(row.where, error) from None
            repairs.drop(row.number, str(error))
    trees = reader.trees()
    report = ConversionReport(found, read, len(trees), kept, repairs, **tree_count(trees), **reader.findings())
    return Conversion(trees, report)


def _refused(where: str, reason: object) -> InputError:
    return InputError(f"{where}: {reason}{_REMEDY}")


class _TreeReader:
    """Reads the trees of a `trees.jsonl` or of its parquet form, and collects those that are added."""

    def __init__(self) -> None:
        self._trees: list[Conversation] = []
        self._ids: set[str] = set()

    def add(self, row: Row) -> Iterable[str]:
        """Add the tree of a row; returns no repairs. Raises ValueError as `read` does."""
        self._trees.append(self.read(row))
        return ()

    def read(self, row: Row) -> Conversation:
        """The tree of a row. Raises ValueError with the reason for a broken one and for an id used twice."""
        try:
            tree = schema.parse(Conversation, json.dumps(row.value, ensure_ascii=False, default=str), row.where)
        except InputError as error:
            raise ValueError(str(error).removeprefix(f"{row.where}: ")) from None
        if tree.id in self._ids:
            raise ValueError(f"conversation id '{tree.id}' is used twice")
        for pair in tree.preferences:
            if not any(node.role == "user" for node in tree.path_to(pair.chosen)):
                raise ValueError(f"the pair of '{pair.chosen}' has no prompt: no user message stands before it")
        self._ids.add(tree.id)
        return tree

    def trees(self) -> list[Conversation]:
        return self._trees

    def findings(self) -> Merged:
        return Merged()


class _RecordReader:
    """Merges users' records into trees."""

    def __init__(self) -> None:
        self._forest, self._tally = Forest(), Tally()

    def add(self, row: Row) -> Iterable[str]:
        """Add a record; returns the repairs that it took. Raises ValueError with the reason for a broken one."""
        reader = Reader(self._tally, row.number)
        add_record(self._forest, row.value, reader)
        return reader.repairs

    def trees(self) -> list[Conversation]:
        return list(self._forest.conversations())

    def findings(self) -> Merged:
        messages, characters = self._forest.sharing()
        return Merged(
            sharing_messages=messages,
            sharing_characters=characters,
            equal_pairs=self._forest.equal_pairs,
            contradicted=self._forest.contradicted,
            unread=self._tally.unread,
        )


def _detect(source: epath.PathLike) -> Format:
    """The format of a file, by its first readable record."""
    lines = container_of(source) == "lines"
    first = next((value for _, value in _tolerant(source, Repairs())), None) if lines else _first(source)
    if first is None:
        number, _ = next(files.lines(source), (0, "")) if lines else (0, "")
        raise InputError(
            f"{source} line {number}: broken JSON{_looks_like(source)}" if number else f"{source} is empty; {_EXPECTED}"
        )
    if isinstance(first, str):
        return "pool"
    record = first if isinstance(first, dict) else {}
    if "nodes" in record:
        return "trees"
    if not given(record.get("messages")) and "chosen" not in record and _of_the_paper(record.get("conversations")):
        return "reference"
    if set(keys.SIDES) <= set(record):
        return "preference"
    if any(name in record for name in keys.CHATS + keys.REPLIES):
        return "messages"
    known = (*keys.PROMPTS, *keys.SIDES)
    if record and any(name in record for name in known):
        return "preference"
    columns = f"; its keys are {', '.join(map(repr, list(record)[:12]))}" if record else ""
    raise InputError(f"{source} is in none of the known formats{columns}; {_EXPECTED}")


def _of_the_paper(turns: object) -> bool:
    """Whether these are turns of the paper's code, which name no role."""
    if not isinstance(turns, list):
        return False
    return not turns or (isinstance(turns[0], dict) and not any(key in turns[0] for key in keys.ROLES))


def _first(source: epath.PathLike) -> object:
    row = next(iter(rows(source)), None)
    if isinstance(row, RowError):
        raise row
    return None if row is None else row.value


def _tolerant(source: epath.PathLike, repairs: Repairs) -> Iterator[tuple[int, object]]:
    """The values of a file of the paper's code."""
    if container_of(source) == "lines":
        yield from read_values(source, repairs)
        return
    for row in rows(source):
        if isinstance(row, RowError):
            repairs.drop(row.number, row.reason)
        else:
            yield row.number, row.value


def _looks_like(source: epath.PathLike) -> str:
    """What a text that is no JSON seems to be, and what to do."""
    _, line = next(files.lines(source))
    for mark, name in (("\t", "tsv"), (",", "csv")):
        if any(cell.strip('" ') in (*keys.PROMPTS, *keys.SIDES) for cell in line.split(mark)):
            return f"; it looks like a table: give it a name ending in .{name}"
    return "; expected one record per line, a JSON array, .csv, .tsv, .parquet or .arrow"


def _write_trees(out: epath.PathLike, trees: Sequence[Conversation]) -> int:
    return write_parquet(out, trees, TREES_SCHEMA) if _is_parquet(out) else schema.write_records(out, trees)


def _is_parquet(path: epath.PathLike) -> bool:
    return epath.Path(path).suffix == ".parquet"


def _pool_kind(source: epath.PathLike) -> str:
    """The kind of a pool's personas by its file name, since its lines do not state it."""
    name = epath.Path(source).name
    found = next((kind for kind in ("personality", "profile") if kind in name), None)
    if found is None:
        raise InputError(f"{source} holds plain strings; rename it to have 'profile' or 'personality' in its file name")
    return found


def _some(records: Sequence[R], source: epath.PathLike) -> Sequence[R]:
    if not records:
        raise InputError(f"{source} holds no whole record; {_EXPECTED}")
    return records
