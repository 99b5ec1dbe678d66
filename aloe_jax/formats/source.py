"""Reads the records of a data file: JSON lines, JSON arrays, CSV, parquet and Arrow, also gzipped text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.stand_ins import HEAD, refuse_stand_in

Container = Literal["lines", "json", "csv", "tsv", "parquet", "arrow"]
# What a file is that cannot be read, by its first bytes, and what to do.
_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstd-compressed; unpack it with `zstd -d`, or compress it with gzip",
    b"BZh": "bzip2-compressed; unpack it with `bunzip2`, or compress it with gzip",
    b"\xfd7zXZ\x00": "xz-compressed; unpack it with `unxz`, or compress it with gzip",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save its table as .csv",
    b"SQLite": "an SQLite database; export its table as .csv",
    b"\x89HDF": "an HDF5 file; save its table as .parquet",
    b"FEA1": "a feather file of version 1; save it as version 2 or as .parquet",
    b"\x80\x04": "a pickle; save its records as JSON lines",
    b"\x80\x05": "a pickle; save its records as JSON lines",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


@dataclass(frozen=True)
class Row:
    """A record with its number (of its line in a text, else of the row) and its place for messages."""

    number: int
    where: str
    value: object


class RowError(InputError):
    """A row that cannot be read although the rows after it can. The message begins with its place."""

    def __init__(self, number: int, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.number, self.where, self.reason = number, where, reason


def container_of(path: epath.PathLike) -> Container:
    """How a file holds its records, by its name and its first bytes. Raises InputError for a missing file, and for one
    of a kind that is not read, with what to do about it."""
    with files.existing(path).open("rb") as file:
        head = file.read(HEAD)
    refuse_stand_in(path, head)
    if (other := next((what for magic, what in _OTHERS.items() if head.startswith(magic)), None)) is not None:
        raise InputError(f"{path} is {other}")
    names = epath.Path(path).name.lower().removesuffix(".gz").rsplit(".", 1)
    suffix = names[-1] if len(names) > 1 else ""
    if suffix == "parquet" or head.startswith(b"PAR1"):
        return "parquet"
    if suffix in ("arrow", "feather") or head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if suffix in ("csv", "tsv"):
        return "tsv" if suffix == "tsv" else "csv"
    return "json" if _is_whole_json(path) else "lines"


def _is_whole_json(path: epath.PathLike) -> bool:
    """Whether a text is one array, or objects written over several lines, and not a value per line."""
    _, first = next(files.lines(path), (0, ""))
    if first.startswith("["):
        return True
    if not first.startswith("{") or (len(first) > 1 and first.endswith("}")):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return _starts_with_value(files.read_text(path))
    return False


def _starts_with_value(text: str) -> bool:
    try:
        json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def rows(path: epath.PathLike) -> Iterator[Row | RowError]:
    """The records in file order; one that cannot be read comes as the error. Raises InputError if the file cannot be
    read on."""
    container = container_of(path)
    if container in ("parquet", "arrow"):
        for number, value in enumerate(_python(read_table(path), path), start=1):
            yield Row(number, f"{path} row {number}", value)
    elif container in ("csv", "tsv"):
        yield from _csv_rows(path, "\t" if container == "tsv" else "")
    elif container == "json":
        yield from _array_rows(path)
    else:
        for number, line in files.lines(path):
            where = f"{path} line {number}"
            try:
                yield Row(number, where, files.parse_json(line, where))
            except InputError as error:
                yield RowError(number, where, str(error).removeprefix(f"{where}: "))


def read_table(path: epath.PathLike) -> pa.Table:
    """The table of a parquet or Arrow file. Raises InputError for a file that is none, or is damaged anywhere."""
    kind = "parquet" if container_of(path) == "parquet" else "Arrow"
    content = pa.BufferReader(files.existing(path).read_bytes())
    try:
        if kind == "parquet":
            table = pq.read_table(content, page_checksum_verification=True)
        else:
            table = _arrow(content)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} is not a readable {kind} file ({reason}); copy or download it again, or save it as JSON lines"
        ) from None
    return table


def _arrow(content: pa.BufferReader) -> pa.Table:
    try:
        return pa.ipc.open_file(content).read_all()
    except pa.ArrowInvalid:
        content.seek(0)
        return pa.ipc.open_stream(content).read_all()


def _python(table: pa.Table, path: epath.PathLike) -> list[dict[str, object]]:
    twice = next((name for name in table.column_names if table.column_names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns '{twice}'; rename or remove one")
    try:
        return table.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]}); copy it again") from None


def _array_rows(path: epath.PathLike) -> Iterator[Row]:
    """The elements of a JSON array, or the objects of a text that writes them over several lines."""
    text, decoder = files.read_text(path), json.JSONDecoder()
    place, line, counted = _skipped(text, 0, " \t\r\n"), 1, 0
    array = text.startswith("[", place)
    place += array
    while (place := _skipped(text, place, " \t\r\n,")) < len(text) and not (array and text[place] == "]"):
        line, counted = line + text.count("\n", counted, place), place
        where = f"{path} line {line}"
        try:
            _, end = decoder.raw_decode(text, place)
        except RecursionError:
            raise InputError(f"{where}: it is nested too deeply to be read; expected a few levels") from None
        except json.JSONDecodeError as error:
            raise InputError(f"{path} line {error.lineno}: broken JSON ({error.msg})") from None
        except ValueError:
            raise InputError(f"{where}: a number has thousands of digits; expected a finite number") from None
        yield Row(line, where, files.parse_json(text[place:end], where))
        place = end
    if array and (place >= len(text) or text[place + 1 :].strip()):
        found = "the list has no end" if place >= len(text) else "something follows the list"
        raise InputError(f"{path}: broken JSON ({found}); expected one list of records, or one record per line")


def _skipped(text: str, place: int, characters: str) -> int:
    while place < len(text) and text[place] in characters:
        place += 1
    return place


def _csv_rows(path: epath.PathLike, delimiter: str) -> Iterator[Row | RowError]:
    """The rows of a table with a header; an empty cell is a missing value. Without a `delimiter` it is a comma, unless
    the header has none: spreadsheets of many countries write semicolons."""
    csv.field_size_limit(1 << 30)
    text = files.read_text(path)
    head = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = delimiter or next((each for each in ",;\t" if each in head), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        if len(set(names)) < len(names):
            raise InputError(f"{path}: a column's name stands twice in the header; expected each once")
        began = reader.line_num + 1
        for cells in reader:
            where = f"{path} line {began}"
            if len(cells) == len(names):
                values = {name: cell or None for name, cell in zip(names, cells, strict=True)}
                yield Row(began, where, values)
            elif cells:
                yield RowError(began, where, f"it has {len(cells)} cells; the header has {len(names)}")
            began = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: broken table ({error})") from None
