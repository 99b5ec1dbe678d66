"""`aloe convert`: conversations and preference data in other formats to `trees.jsonl`, pools to `personas.jsonl`, trees
to parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats import paper
from aloe_jax.formats.records import Forest, add_record
from aloe_jax.formats.repair import Repairs, read_values
from aloe_jax.tree import schema
from aloe_jax.tree.schema import Conversation

# "reference" (the name in the report) is the format of the conversations that the paper's code writes.
Format = Literal["reference", "pool", "messages", "preference", "trees"]
R = TypeVar("R")
BATCH = 256  # records in memory while parquet is written
_EXPECTED = (
    "expected trees, conversations or pools of the paper's code, records with 'messages', or with 'chosen' and "
    "'rejected'"
)
_ITEM = pa.struct([("id", pa.string()), ("text", pa.string())])
_NODE = pa.struct(
    [
        ("id", pa.string()),
        ("parent", pa.string()),
        ("role", pa.string()),
        ("text", pa.string()),
        ("condition", pa.string()),
        ("belief", pa.list_(pa.struct([("id", pa.string()), ("node", pa.string())]))),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float64())),
        ("tokenizer", pa.string()),
        (
            "scores",
            pa.list_(pa.struct([("judge", pa.string()), ("criterion", pa.string()), ("value", pa.float64())])),
        ),
        ("value", pa.float64()),
        ("calls", pa.list_(pa.string())),
        ("flags", pa.list_(pa.string())),
    ]
)
_PERSONA = pa.struct(
    [
        ("id", pa.string()),
        ("profile", pa.string()),
        ("personality", pa.string()),
        ("facts", pa.list_(_ITEM)),
        ("traits", pa.list_(_ITEM)),
    ]
)
_PREFERENCE = pa.struct(
    [("chosen", pa.string()), ("rejected", pa.string()), ("margin", pa.float64()), ("judge", pa.string())]
)
PERSONA_SCHEMA = pa.schema(list(_PERSONA))
TREES_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("id", pa.string()),
        ("persona", _PERSONA),
        ("nodes", pa.list_(_NODE)),
        ("preferences", pa.list_(_PREFERENCE)),
        ("path", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class ConversionReport:
    """The records that a conversion read, wrote, repaired and left out.

    Where records were merged, `sharing_messages` and `sharing_characters` are the ratios of their messages and
    characters to those of the trees; `equal_pairs` counts pairs with two equal sides.
    """

    format: Format
    read: int
    written: int
    repairs: Repairs = field(default_factory=Repairs)
    sharing_messages: float | None = None
    sharing_characters: float | None = None
    equal_pairs: int = 0

    def lines(self) -> list[str]:
        """The report as text, one finding per line."""
        found = [f"read {self.read} {self.format} records, wrote {self.written}"]
        if self.sharing_messages is not None:
            found.append(
                f"sharing factor {self.sharing_messages:.2f} in messages, {self.sharing_characters:.2f} in characters"
            )
        if self.equal_pairs:
            found.append(f"{self.equal_pairs} pairs left out: chosen and rejected are the same")
        for kind, lines in sorted(self.repairs.repaired.items()):
            found.append(f"repaired: {kind}: {len(lines)} (lines {_enumerated(lines)})")
        reasons: dict[str, list[int]] = {}
        for line, reason in self.repairs.dropped:
            reasons.setdefault(reason, []).append(line)
        for reason, lines in sorted(reasons.items()):
            found.append(f"left out: {reason}: {len(lines)} (lines {_enumerated(lines)})")
        return found


def convert(source: epath.PathLike, out: epath.PathLike) -> ConversionReport:
    """Convert `source` (JSON lines or parquet, its format detected by content) and write `out` atomically.

    The `conversations.jsonl` of the paper's code and users' own records become `trees.jsonl`, pools of the paper's code
    `personas.jsonl`, trees become parquet or, from parquet, JSON lines: `out` is parquet if it ends in `.parquet`. The
    paper's files are read tolerantly; the report lists what was repaired or left out.

    Raises InputError with the line number for a broken line or record of any other format, for an unknown format, and
    if nothing is left to write.
    """
    found = _detect(source)
    repairs = Repairs()
    if found == "pool":
        if _is_parquet(out):
            raise InputError(f"out is '{out}'; personas are written as JSON lines, expected a name ending in .jsonl")
        values = list(read_values(source, repairs))
        personas = list(paper.personas(values, repairs, _pool_kind(source)))
        return ConversionReport(found, len(values), schema.write_records(out, _some(personas, source)), repairs)
    trees, read, forest = _conversations(source, found, repairs)
    written = _write_trees(out, _some(trees, source))
    if forest is None:
        return ConversionReport(found, read, written, repairs)
    return ConversionReport(found, read, written, repairs, *forest.sharing(), forest.equal_pairs)


def read_conversations(source: epath.PathLike) -> list[Conversation]:
    """The conversations of a file in any format except a pool's, as `convert` writes them. Raises InputError as it
    does."""
    found = _detect(source)
    if found == "pool":
        raise InputError(f"{source} holds personas, no conversations; {_EXPECTED}")
    return list(_some(_conversations(source, found, Repairs())[0], source))


def _conversations(
    source: epath.PathLike, found: Format, repairs: Repairs
) -> tuple[list[Conversation], int, Forest | None]:
    """The trees of a file, the number of its records, and, where records were merged, the forest of the trees."""
    if found == "reference":
        values = list(read_values(source, repairs))
        return list(paper.conversations(values, repairs)), len(values), None
    if found == "trees":
        trees = list(_read_trees(source))
        return trees, len(trees), None
    forest, count = Forest(), 0
    for where, record in _records(source):
        add_record(forest, record, where)
        count += 1
    return list(forest.conversations()), count, forest


def _detect(source: epath.PathLike) -> Format:
    """The format of a file, by its columns or its first readable value."""
    if _is_parquet(source):
        first: object = dict.fromkeys(_parquet(source).column_names)
    else:
        first = next((value for _, value in read_values(source, Repairs())), None)
    if first is None:
        number, _ = next(files.lines(source), (0, ""))
        raise InputError(f"{source} line {number}: broken JSON" if number else f"{source} is empty; {_EXPECTED}")
    if isinstance(first, str):
        return "pool"
    keys = set(first) if isinstance(first, dict) else set()
    if "nodes" in keys:
        return "trees"
    if "messages" in keys:
        return "messages"
    if {"chosen", "rejected"} <= keys:
        return "preference"
    if "conversations" in keys and not _is_parquet(source):
        return "reference"
    raise InputError(f"{source} is in none of the known formats; {_EXPECTED}")


def _records(source: epath.PathLike) -> Iterator[tuple[str, object]]:
    """The records, each with its place in the file for messages. Raises InputError for a broken line."""
    if _is_parquet(source):
        for number, record in enumerate(_parquet(source).to_pylist(), start=1):
            yield f"{source} row {number}", record
        return
    for number, line in files.lines(source):
        try:
            yield f"{source} line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{source} line {number}: broken JSON ({error.msg} at column {error.colno})") from None


def _read_trees(source: epath.PathLike) -> Iterator[Conversation]:
    if not _is_parquet(source):
        yield from schema.read_trees(source)
        return
    for where, record in _records(source):
        yield schema.parse(Conversation, json.dumps(record), where)


def _write_trees(out: epath.PathLike, trees: Sequence[Conversation]) -> int:
    return write_parquet(out, trees, TREES_SCHEMA) if _is_parquet(out) else schema.write_records(out, trees)


def write_parquet(out: epath.PathLike, records: Iterable[schema.Record], columns: pa.Schema) -> int:
    """Write records as parquet, in batches and atomically; returns their number. Raises ResumableError if the disk is
    full."""
    count, rows = 0, list[dict[str, object]]()
    with files.replacing(out) as partial, partial.open("wb") as file, pq.ParquetWriter(file, columns) as writer:
        for record in records:
            rows.append(record.model_dump(mode="json"))
            count += 1
            if len(rows) == BATCH:
                writer.write_table(pa.Table.from_pylist(rows, schema=columns))
                rows.clear()
        writer.write_table(pa.Table.from_pylist(rows, schema=columns))
    return count


def _is_parquet(path: epath.PathLike) -> bool:
    return epath.Path(path).suffix == ".parquet"


def _parquet(path: epath.PathLike) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(files.existing(path).read_bytes()))
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a readable parquet file ({error})") from None


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


def _enumerated(lines: list[int]) -> str:
    """The first line numbers as text."""
    shown = ", ".join(map(str, lines[:10]))
    return f"{shown}, ..." if len(lines) > 10 else shown
