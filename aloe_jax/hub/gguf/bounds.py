"""The counts and lengths of a GGUF file's head, held against the size of the file before anything of it is read.

The library's reader believes them: an array of 2^63 elements in a file of 50 bytes takes all memory there is. The
layout is that of `gguf-py` and of the specification (ggml/docs/gguf.md), versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from aloe_jax.errors import InputError

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a number by its type
MOST_AXES = 8
DEEPEST = 4  # arrays in arrays


def check_counts(path: Path) -> None:
    """Raise InputError if the metadata or the list of tensors of a GGUF file does not fit into the file."""
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            raise _broken(path, "it does not begin with 'GGUF'")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _Head(data).walk()
            except (ValueError, OverflowError, struct.error) as error:
                raise _broken(path, str(error)) from None


def _broken(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is not a complete GGUF file ({reason}); download it again")


class _Head:
    """A place in the file, which moves on."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 4
        self.order = "<"
        if self.number("I") & 0xFFFF == 0:  # a version of the other byte order
            self.order = ">"

    def walk(self) -> None:
        """Pass over the metadata and the tensors' names and shapes. ValueError if they go beyond the file."""
        tensors, values = self.number("Q"), self.number("Q")
        for _ in range(values):
            self.skip(self.number("Q"), "the name of a key")
            self.value(self.number("I"), DEEPEST)
        for _ in range(tensors):
            self.skip(self.number("Q"), "the name of a tensor")
            axes = self.number("I")
            if axes > MOST_AXES:
                raise ValueError(f"a tensor has {axes} axes")
            self.skip(8 * axes + 4 + 8, "the shape of a tensor")

    def value(self, kind: int, deepest: int) -> None:
        """Pass over one value of metadata."""
        if kind == STRING:
            self.skip(self.number("Q"), "a text")
        elif kind in SIZES:
            self.skip(SIZES[kind], "a number")
        elif kind == ARRAY and deepest:
            inner, count = self.number("I"), self.number("Q")
            if inner in SIZES:
                self.skip(count * SIZES[inner], f"an array of {count} numbers")
                return
            if inner == STRING:
                self.texts(count)
                return
            for _ in range(count):
                self.value(inner, deepest - 1)
        else:
            raise ValueError(f"a value has the unknown type {kind}")

    def texts(self, count: int) -> None:
        """Pass over an array of texts; a vocabulary has hundreds of thousands."""
        length, data, place = struct.Struct(f"{self.order}Q").unpack_from, self.data, self.place
        for _ in range(count):
            place += 8 + length(data, place)[0]
        self.place = place

    def number(self, code: str) -> int:
        """The next unsigned number."""
        (found,) = struct.unpack_from(self.order + code, self.data, self.place)
        self.place += struct.calcsize(code)
        return int(found)

    def skip(self, size: int, what: str) -> None:
        """Pass over so many bytes."""
        if self.place + size > len(self.data):
            raise ValueError(f"{what} goes beyond its {len(self.data):,} bytes")
        self.place += size
