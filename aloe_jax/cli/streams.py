"""Standard streams that outlive what reads them: a closed terminal must not end the work that it displayed."""

from __future__ import annotations

import errno
import io
from collections.abc import Collection
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CLOSED = frozenset({errno.EIO})  # a terminal that was closed
UNWRITABLE = CLOSED | {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Lasting(io.FileIO):
    """An open file whose failing writes are dropped if their error is one of `dropped`."""

    def __init__(self, descriptor: int, dropped: Collection[int]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._dropped, self._terminal = dropped, super().isatty()

    def write(self, data: ReadableBuffer, /) -> int:
        """As of any file, but for the dropped failures."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self._dropped:
                raise
            return memoryview(data).nbytes

    def isatty(self) -> bool:
        """Whether it was a terminal at the start."""
        return self._terminal


def lasting(stream: TextIO, dropped: Collection[int]) -> TextIO:
    """A stream to the same place whose failures with an error number in `dropped` are no failures, and which escapes
    the characters that its encoding lacks. Streams of another kind, as of tests, stay as they are."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(stream.fileno(), dropped)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
