"""File helpers: atomic writes, JSON lines, appends that survive a kill, hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

from aloe_jax.errors import InputError, ResumableError

_BLOCK = 1 << 16  # bytes per read from the end of a file
_DIGITS = 300  # of a whole number in JSON; a float holds 309
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries with writers of their own (tensorstore, ArrayRecord) put it into the message of another exception.
_FULL_MESSAGE = re.compile("No space left on device|Disk quota exceeded|File too large")


def existing(path: epath.PathLike, what: str = "file") -> epath.Path:
    """`path`, which must exist. Raises InputError naming it otherwise."""
    found = epath.Path(path)
    if not found.exists():
        raise InputError(f"{what} '{path}' does not exist")
    return found


def lines(path: epath.PathLike) -> Iterator[tuple[int, str]]:
    """The non-empty lines with their numbers from 1. Raises InputError if the file is missing or is not UTF-8."""
    with existing(path).open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8").strip()
            except UnicodeDecodeError:
                raise InputError(f"{path} line {number}: not UTF-8 text; save the file as UTF-8") from None
            if line:
                yield number, line


def read_json_lines(path: epath.PathLike) -> list[dict[str, object]]:
    """The objects of a JSON-lines file. Raises InputError with the number of a line that is not a JSON object."""
    records = []
    for number, line in lines(path):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} line {number}: broken JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(value, dict):
            raise InputError(f"{path} line {number}: expected a JSON object, found {type(value).__name__}")
        records.append(value)
    return records


def ordinary(path: epath.PathLike) -> bool:
    """Whether `path` is a file with content. `epath` takes a local pipe, which blocks whoever opens it, for one."""
    name = os.fspath(path)
    return epath.Path(path).is_file() if "://" in name else os.path.isfile(name)


def read_text(path: epath.PathLike) -> str:
    """The content of a text file. Raises InputError if it is missing, is no ordinary file (a pipe would block), or is
    not UTF-8."""
    found = existing(path)
    if not ordinary(path):
        raise InputError(f"{path} is not an ordinary file; expected one with text")
    try:
        return found.read_text()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check your access to it") from None


def read_json(path: epath.PathLike) -> Any:
    """The content of a JSON file. Raises InputError as `read_text` does, and if it is broken or holds a number that
    is not finite or has hundreds of digits."""
    text = read_text(path)
    try:
        value = json.loads(text, parse_constant=_Unusable, parse_float=_number, parse_int=_number)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: broken JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{path}: its JSON is nested too deeply to be read; repair the file") from None
    if (found := _unusable(value)) is not None:
        field, text = found
        shown = text if len(text) <= 40 else f"{text[:20]}... of {len(text)} characters"
        raise InputError(f"{path}: {field} is {shown}; expected a finite number")
    return value


class _Unusable(str):
    """The text of a number that is not finite, or too long to be one."""


def _number(text: str) -> int | float | _Unusable:
    """The number of a JSON text. `int` refuses thousands of digits itself, with a message about its limit."""
    if text.lstrip("-").isdecimal():
        return int(text) if len(text) <= _DIGITS else _Unusable(text)
    found = float(text)
    return found if math.isfinite(found) else _Unusable(text)


def _unusable(value: object) -> tuple[str, str] | None:
    """The first unusable number in a JSON value: the name of its field, and its text."""
    waiting = [("the content", value)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, _Unusable):
            return name, value
        if isinstance(value, dict):
            waiting += [(f"field '{key}'", item) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [(name, item) for item in value]
    return None


def write_text(path: epath.PathLike, text: str) -> None:
    """Write a file atomically: under a temporary name beside it, which is then renamed.

    Raises ResumableError if the disk is full; an earlier file is left as it is.
    """
    _write_parts(path, [text])


def write_json(path: epath.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: epath.PathLike, items: Iterable[str]) -> int:
    """Write one item per line, atomically and one at a time; returns their number."""
    return _write_parts(path, (item + "\n" for item in items))


def _write_parts(path: epath.PathLike, parts: Iterable[str]) -> int:
    path = epath.Path(path)
    partial = path.parent / f".{path.name}.partial"
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            for part in parts:
                file.write(part)
                count += 1
        partial.replace(path)
    except OSError as error:
        raise failed_write(path, error) from error
    return count


def append_line(path: epath.PathLike, line: str) -> None:
    """Append one line to a local file and flush it to the disk, so that a kill loses at most a torn last line. Raises
    ResumableError if the disk is full."""
    try:
        with open(os.fspath(path), "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise failed_write(path, error) from error


def repair_lines(path: epath.PathLike) -> int:
    """Cut off the last line of a local file if a kill left it torn (without a line end); returns the number of bytes
    removed. The file may be missing. Only its end is read."""
    if not epath.Path(path).exists():
        return 0
    with open(os.fspath(path), "r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            if (place := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            file.truncate(end)
    return size - end


def disk_full(error: BaseException) -> bool:
    """Whether a write failed because the disk, the quota or the maximum file size is exhausted."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return bool(_FULL_MESSAGE.search(str(error)))


def failed_write(path: epath.PathLike, error: BaseException) -> ResumableError:
    """The error for a write that the system refused, with the system's own reason."""
    found = _FULL_MESSAGE.search(str(error))
    reason = (error.strerror if isinstance(error, OSError) else None) or (found.group() if found else str(error))
    remedy = "free some" if disk_full(error) else "mend it"
    return ResumableError(f"cannot write '{path}': {reason}; {remedy}, then run the same command again")


def canonical(value: Any) -> str:
    """Canonical JSON, the same text for equal values, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(*parts: bytes | str) -> str:
    """Hex digest of the parts, each with its length, so that their borders count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(str(len(data)).encode() + b":" + data)
    return digest.hexdigest()


def hash_file(path: epath.PathLike) -> str:
    """SHA-256 of a file's bytes, read in chunks. Raises InputError if it is missing or no ordinary file."""
    digest = hashlib.sha256()
    if not ordinary(path):
        raise InputError(f"{path} is not an ordinary file; expected one with content")
    with existing(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
