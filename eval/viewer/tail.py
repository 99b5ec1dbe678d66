"""The tail of a JSON-lines file that another process may be writing: each read continues where the last one ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json


@dataclass(frozen=True)
class Line:
    """One complete line: its number from 1, its offset in the file, and its bytes."""

    number: int
    offset: int
    data: bytes


class TailedFile:
    """Yields each complete line once, and all of them again after the file was replaced.

    A stage appends to its file while it runs and rewrites it at the end under the same name, so the file counts as
    grown only if the last line that was read is still at its offset.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start_over()

    def _start_over(self) -> None:
        self._state: tuple[int, int, int] | None = None
        self._number = 0
        self._end = 0
        self._closed = True  # whether the last line that was read had its line ending
        self._last = (0, b"")  # offset and bytes of the last line that was read

    def changed(self) -> bool:
        """Whether there may be new lines since `lines` was last read to its end."""
        return self._stat() != self._state

    def restarted(self) -> bool:
        """Whether the lines that were read are no longer in the file; if so, the next `lines` begins at its start."""
        offset, last = self._last
        try:
            same = self.at(offset, len(last)) == last
        except FileNotFoundError:
            same = self._end == 0
        if not same:
            self._start_over()
        return not same

    def lines(self) -> Iterator[Line]:
        """Lines from where the last read ended. If the caller stops before the last one, the file stays `changed`. A
        last line without a line ending is left out until it is valid JSON, which a part of an object never is. A
        missing file has no lines.
        """
        state = self._stat()
        if state is not None:
            with self.path.open("rb", buffering=1 << 20) as file:
                file.seek(self._end)
                for raw in file:
                    if not raw.endswith(b"\n") and not _is_json(raw):
                        break
                    self._number += self._closed
                    self._closed = raw.endswith(b"\n")
                    self._last = (self._end, raw)
                    self._end += len(raw)
                    if raw.strip():
                        yield Line(self._number, self._last[0], raw)
        self._state = state

    def at(self, offset: int, length: int) -> bytes:
        """Bytes of a line that `lines` yielded; other bytes, or fewer, if the file was replaced since."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def _stat(self) -> tuple[int, int, int] | None:
        """Figures that change with the file's content; None if there is no file."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


def _is_json(raw: bytes) -> bool:
    try:
        parse(raw)
    except ValueError:
        return False
    return True


def parse(raw: bytes) -> object:
    """The value of one line. NaN and infinities, which browsers cannot read, become None. ValueError if broken."""
    try:
        return from_json(raw, allow_inf_nan=False, cache_strings="keys")  # twice as fast as `json`, and stricter
    except ValueError:
        pass
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=lambda name: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None
