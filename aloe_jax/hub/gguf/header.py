"""The header of a GGUF file held against the file's size, before the `gguf` library allocates what it states.

Format (github.com/ggml-org/ggml, docs/gguf.md): magic, version, the counts of tensors and of metadata entries; an entry
is a key, a type and a value; a tensor its name, sizes, type and offset. Numbers are little-endian.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.stand_ins import HEAD, refuse_stand_in

# Bytes of a value by the number of its type; strings and arrays state their own length.
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
DEPTH = 4  # of arrays in arrays
MOST_SIZES = 8  # of a tensor


def check_header(path: Path) -> None:
    """Raise InputError for a file that is no ordinary one, or whose header states more than the file can hold."""
    if not files.ordinary(path):
        raise InputError(f"{path} is not an ordinary file; expected a GGUF file")
    with path.open("rb") as file:
        refuse_stand_in(path, file.read(HEAD))
        file.seek(0)
        try:
            _Walk(file, os.fstat(file.fileno()).st_size).header()
        except ValueError as error:
            raise InputError(f"{path} is not a complete GGUF file ({error}); download it again") from None


class _Walk:
    """Reads a header from its beginning. Raises ValueError for what the rest of the file cannot hold."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def header(self) -> None:
        if self._read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        if not 2 <= (version := self._number(4)) <= 3:
            raise ValueError(f"its version is {version}; expected 2 or 3")
        tensors, entries = self._number(8), self._number(8)
        self._fits("tensors", tensors, 24)
        self._fits("metadata entries", entries, 13)
        for _ in range(entries):
            key = self._string("a key")
            self._value(f"metadata key {key[:60]!r}", self._number(4), DEPTH)
        for _ in range(tensors):
            name = self._string("the name of a tensor")
            if (sizes := self._number(4)) > MOST_SIZES:
                raise ValueError(f"tensor {name[:60]!r} has {sizes} sizes; expected at most {MOST_SIZES}")
            self._skip(f"tensor {name[:60]!r}", 8 * sizes + 12)

    def _value(self, where: str, kind: int, depth: int) -> None:
        if kind in WIDTHS:
            self._skip(where, WIDTHS[kind])
        elif kind == STRING:
            self._string(where)
        elif kind == ARRAY and depth:
            item, count = self._number(4), self._number(8)
            if item in WIDTHS:
                self._fits(f"items of {where}", count, WIDTHS[item])
                self._skip(where, count * WIDTHS[item])
                return
            self._fits(f"items of {where}", count, 8)
            for _ in range(count):
                self._value(where, item, depth - 1)
        else:
            raise ValueError(f"{where} has type {kind}")

    def _string(self, where: str) -> str:
        length = self._number(8)
        self._fits(f"characters of {where}", length, 1)
        return self._read(length).decode("utf-8", "replace")

    def _fits(self, what: str, count: int, width: int) -> None:
        if count * width > self._left:
            raise ValueError(f"its header states {count} {what}, for which {self._left} bytes are left")

    def _skip(self, where: str, size: int) -> None:
        self._fits(f"bytes of {where}", size, 1)
        self._file.seek(size, os.SEEK_CUR)
        self._left -= size

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("it ends inside its header")
        self._left -= size
        return data

    def _number(self, width: int) -> int:
        return int(struct.unpack("<I" if width == 4 else "<Q", self._read(width))[0])
