"""Writes trees and personas as parquet."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from aloe_jax import files
from aloe_jax.tree import schema

BATCH = 256  # records in memory while parquet is written
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
        ("advantage", pa.float64()),
        ("policy", pa.int32()),
        ("label", pa.bool_()),
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


def write_parquet(out: epath.PathLike, records: Iterable[schema.Record], columns: pa.Schema) -> int:
    """Write records as parquet, in batches and atomically; returns their number. Raises ResumableError if the disk is
    full."""
    count, rows = 0, list[dict[str, object]]()
    with (
        files.replacing(out) as partial,
        partial.open("wb") as file,
        pq.ParquetWriter(file, columns, write_page_checksum=True) as writer,
    ):
        for record in records:
            rows.append(record.model_dump(mode="json"))
            count += 1
            if len(rows) == BATCH:
                writer.write_table(pa.Table.from_pylist(rows, schema=columns))
                rows.clear()
        writer.write_table(pa.Table.from_pylist(rows, schema=columns))
    return count
