"""File helpers: atomic writes, strict JSON, JSON lines, appends that survive a kill, hashes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, NoReturn

from etils import epath

from aloe_jax.errors import InputError, failed_write
from aloe_jax.stand_ins import HEAD, refuse_stand_in

BYTE_ORDER_MARK = "\ufeff"
_GZIP = b"\x1f\x8b"
# Numbers that may be beyond a float, and escapes of half a character; a text with neither is read at full speed.
_DIGITS = 300
_HUGE = re.compile(rf"[eE]\+?\d{{3}}|\d{{{_DIGITS}}}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BLOCK = 1 << 16  # bytes per read from the end of a file


def existing(path: epath.PathLike, what: str = "file") -> epath.Path:
    """`path`, which must exist. Raises InputError naming it otherwise, and if its place refuses to be looked at."""
    found = epath.Path(path)
    try:
        if found.exists():
            return found
    except Exception as error:  # the client of an object store has exceptions of its own
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{what} '{path}' cannot be read ({reason}); check the path and your access to it") from error
    raise InputError(f"{what} '{path}' does not exist")


def lines(path: epath.PathLike) -> Iterator[tuple[int, str]]:
    """The non-empty lines with their numbers from 1, without byte order marks; gzip is unpacked. Raises InputError if
    the file is missing, is not UTF-8, or is damaged gzip."""
    number = 0
    with existing(path).open("rb") as file:
        try:
            for number, raw in enumerate(_unpacked(file), start=1):
                if line := raw.decode("utf-8").strip().lstrip(BYTE_ORDER_MARK):
                    yield number, line
        except UnicodeDecodeError:
            raise InputError(f"{path} line {number}: not UTF-8 text; save the file as UTF-8") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path} is damaged gzip after line {number} ({error}); copy it again") from None


def ordinary(path: epath.PathLike) -> bool:
    """Whether `path` is a file with content. `epath` takes a local pipe, which blocks whoever opens it, for one."""
    name = os.fspath(path)
    return epath.Path(path).is_file() if "://" in name else os.path.isfile(name)


def read_text(path: epath.PathLike) -> str:
    """The text of a file without its byte order mark, line breaks as they are; gzip is unpacked. Raises InputError if
    the file is missing, is no ordinary file (a pipe would block), is one that only stands for it, is not UTF-8, or is
    damaged gzip."""
    found = existing(path)
    if not ordinary(path):
        raise InputError(f"{path} is not an ordinary file; expected one with text")
    try:
        with found.open("rb") as file:
            content = _unpacked(file).read()
        refuse_stand_in(path, content[:HEAD])
        return content.decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged gzip ({error}); copy it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check your access to it") from None


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """The same bytes, unpacked if they are gzip."""
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[return-value]


def loads(text: str, finite: bool = True) -> Any:
    """The value of a JSON text, read strictly.

    Raises ValueError (JSONDecodeError for broken JSON) with the reason for what the standard library takes and JSON or
    UTF-8 has no place for: NaN and Infinity (read if not `finite`), numbers beyond a float, a key that stands twice,
    half a surrogate pair; and for nesting or digits beyond what can be read.
    """
    huge = _HUGE.search(text) is not None
    try:
        return _decoded(text, _not_finite if finite else None, _finite if huge else None, _whole if huge else None)
    except RecursionError:
        raise ValueError("it is nested too deeply to be read; expected a few levels") from None


def _decoded(
    text: str,
    constant: Callable[[str], object] | None,
    decimal: Callable[[str], object] | None,
    whole: Callable[[str], object] | None,
) -> Any:
    """The value of a JSON text, with functions for NaN and infinities, decimals and whole numbers. ValueError for a key
    that stands twice and for half a surrogate pair."""
    value = json.loads(
        text.removeprefix(BYTE_ORDER_MARK),
        parse_constant=constant,
        parse_float=decimal,
        parse_int=whole,
        object_pairs_hook=_object,
    )
    if _SURROGATE.search(text):
        check_unicode(json.dumps(value, ensure_ascii=False))
    return value


def check_unicode(text: str) -> None:
    """Raise ValueError if a text has half a surrogate pair, which is no character and cannot be stored."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(
            f"a text holds half a surrogate pair (\\u{code:04x}), which is no character; write the whole pair or leave "
            "it out"
        ) from None


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON; expected a finite number or null")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"the number {text[:40]} is beyond a float; expected a finite number or null")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number has {len(text):,} digits; expected one of at most {_DIGITS}")
    return int(text)


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice[:80]}' stands twice in one object; expected it once")
    return found


def parse_json(text: str, where: str, finite: bool = True) -> Any:
    """The value of a JSON text, read strictly (`loads`). Raises InputError, beginning with `where`, with the reason."""
    try:
        return loads(text, finite)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: broken JSON ({error.msg} at column {error.colno})") from None
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def read_json_lines(path: epath.PathLike, finite: bool = True) -> list[dict[str, object]]:
    """The objects of a JSON-lines file; unless `finite`, NaN and infinities too, which earlier versions wrote.

    Raises InputError with the number of a line that is not a JSON object.
    """
    records = []
    for number, line in lines(path):
        value = parse_json(line, f"{path} line {number}", finite)
        if not isinstance(value, dict):
            raise InputError(f"{path} line {number}: expected a JSON object, found {type(value).__name__}")
        records.append(value)
    return records


def read_json(path: epath.PathLike) -> Any:
    """The content of a JSON file. Raises InputError as `read_text` does, and if it is broken, is nested too deeply, has
    a key twice, or holds a number that is not finite or has hundreds of digits."""
    text = read_text(path)
    try:
        value = _decoded(text, _Unusable, _marked(_finite), _marked(_whole))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: broken JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{path}: its JSON is nested too deeply to be read; repair the file") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if (found := _unusable(value)) is not None:
        field, given = found
        shown = given if len(given) <= 40 else f"{given[:20]}... of {len(given)} characters"
        raise InputError(f"{path}: {field} is {shown}; expected a finite number")
    return value


def read_object(path: epath.PathLike) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError as `read_json` does, and for another value."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


class _Unusable(str):
    """The text of a number that is not finite, or too long to be one."""


def _marked(number: Callable[[str], object]) -> Callable[[str], object]:
    """The same function, which marks the text that it refuses: its field is known later."""

    def marking(text: str) -> object:
        try:
            return number(text)
        except ValueError:
            return _Unusable(text)

    return marking


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


def json_line(value: object, compact: bool = False) -> str:
    """A value as one line of JSON. NaN and infinities, which JSON lacks, are written as null.

    Raises InputError for a text with half a surrogate pair.
    """
    separators = (",", ":") if compact else None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators)
    except ValueError:
        text = json.dumps(_nulled(value), ensure_ascii=False, allow_nan=False, separators=separators)
    try:
        check_unicode(text)
    except ValueError as error:
        raise InputError(f"a record cannot be written: {error}") from None
    return text


def _nulled(value: object) -> object:
    """The same value with None for each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _nulled(inner) for key, inner in value.items()}
    return [_nulled(inner) for inner in value] if isinstance(value, list | tuple) else value


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
    count = 0
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for part in parts:
            file.write(part)
            count += 1
    return count


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[epath.Path]:
    """A temporary path beside `path`, which takes its place when the block succeeds and is removed when it fails. Of a
    symbolic link the target is replaced.

    Raises ResumableError if the system refuses the write, and InputError as `output_file` does.
    """
    out = output_file(path)
    partial = out.parent / f".{out.name}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(out)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise failed_write(path, error) from error
        raise


def output_file(path: epath.PathLike) -> epath.Path:
    """The file that a write to `path` replaces: the target of a symbolic link. InputError if a folder, or what is no
    regular file, is in the way. Also called before long work."""
    out = epath.Path(path)
    if "://" in str(path):
        return out
    if out.is_dir():
        raise InputError(f"cannot write '{path}': it is a folder; give a file")
    if os.path.exists(out) and not os.path.isfile(out):
        raise InputError(f"cannot write '{path}': it is a device, a pipe or a socket; give a file")
    return epath.Path(os.path.realpath(out))


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
    found = existing(path)
    if not ordinary(path):
        raise InputError(f"{path} is not an ordinary file; expected one with content")
    with found.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
