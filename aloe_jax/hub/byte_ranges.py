"""Files read by byte range, on this machine or in an object store, and blocks of the arrays they hold.

Nothing is memory-mapped: mapped pages count as memory of the process, and an object store cannot be mapped.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import stat
import threading
import weakref
from typing import Protocol

import fsspec
import numpy as np
from etils import epath

from aloe_jax.errors import InputError

Index = tuple[slice, ...]

# The maximum of one request to a store, and the gap up to which two ranges are fetched in one request: a request takes
# about 50 ms, in which a store sends some megabytes. In local files gaps are never read.
STORE_BYTES = 16 << 20
STORE_GAP = 4 << 20

_lock = threading.Lock()
_read = 0


class RangeFile(Protocol):
    """A file whose ranges several threads may read at once."""

    path: epath.PathLike
    size: int  # bytes
    gap: int  # maximum bytes between two ranges that are read as one

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `offset` on. Raises InputError if the file ends before or cannot be read."""


class LocalFile:
    """A local file."""

    gap = 0

    def __init__(self, path: epath.PathLike) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
                raise InputError(f"'{os.fspath(path)}' is not an ordinary file; expected one with weights")
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise unreadable(path, error) from None
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def read_into(self, offset: int, out: memoryview) -> None:
        _count(len(out))
        while len(out):
            try:
                found = os.preadv(self._descriptor, [out], offset)
            except OSError as error:
                raise unreadable(self.path, error) from None
            if not found:
                raise _ended(self.path)
            offset, out = offset + found, out[found:]


class StoreFile:
    """An object in a store that fsspec supports (gs://)."""

    gap = STORE_GAP

    def __init__(self, path: epath.PathLike) -> None:
        self.path = path
        try:
            self._store, self._key = fsspec.core.url_to_fs(os.fspath(path))
            self.size = int(self._store.info(self._key)["size"])
        except Exception as error:  # the store's client library has exceptions of its own
            raise unreadable(path, error) from None

    def read_into(self, offset: int, out: memoryview) -> None:
        for begin in range(0, len(out), STORE_BYTES):
            end = min(len(out), begin + STORE_BYTES)
            _count(end - begin)
            try:
                data = self._store.cat_file(self._key, offset + begin, offset + end)
            except Exception as error:
                raise unreadable(self.path, error) from None
            if len(data) != end - begin:
                raise _ended(self.path)
            out[begin:end] = data


def is_store(path: epath.PathLike) -> bool:
    """Whether `path` is in an object store."""
    return "://" in os.fspath(path)


def open_file(path: epath.PathLike) -> RangeFile:
    """Open `path` for reading by ranges. Raises InputError if that is impossible."""
    if not is_store(path):
        return LocalFile(path)
    for client in map(logging.getLogger, ("gcsfs", "google.auth")):
        if client.level == logging.NOTSET:
            client.setLevel(logging.CRITICAL)  # they would print tracebacks in addition to our sentence
    return StoreFile(path)


def bytes_read() -> int:
    """The number of bytes that this process has requested through this module so far."""
    return _read


def _count(size: int) -> None:
    global _read
    with _lock:
        _read += size


def unreadable(path: epath.PathLike, error: BaseException) -> InputError:
    """The error for a file that cannot be read, with the first line of the reason."""
    return InputError(f"'{os.fspath(path)}' cannot be read ({reason(error)}); check the path and your access to it")


def reason(error: BaseException) -> str:
    """The first line of an exception's message, or its name."""
    said = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    return said.strip().splitlines()[0] if said.strip() else type(error).__name__


def _ended(path: epath.PathLike) -> InputError:
    return InputError(f"'{os.fspath(path)}' ended while it was read; is somebody writing it? Download it again")


def read_bytes(file: RangeFile, offset: int, size: int) -> bytes:
    """The `size` bytes from `offset` on."""
    data = bytearray(size)
    file.read_into(offset, memoryview(data))
    return bytes(data)


def read_block(file: RangeFile, begin: int, shape: tuple[int, ...], dtype: np.dtype, index: Index) -> np.ndarray:
    """The block `index` of the row-major array that starts at byte `begin` of `file`, as a contiguous array.

    The slices of `index` have a start and a stop within `shape` and no step. Only bytes of the block are read, and in a
    store also those between runs of it that are close together.
    """
    out = np.empty([part.stop - part.start for part in index], dtype)
    if out.size:
        offsets, length = _runs(shape, index, dtype.itemsize)
        _read_runs(file, begin + offsets, length, out.reshape(-1).view(np.uint8).data)
    return out


def _runs(shape: tuple[int, ...], index: Index, itemsize: int) -> tuple[np.ndarray, int]:
    """The byte offsets of the contiguous runs of a block, in order, and the length of each."""
    sizes = [part.stop - part.start for part in index]
    strides = [itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    cut = max((axis for axis in range(len(shape)) if sizes[axis] != shape[axis]), default=0)  # whole axes follow it
    offsets = np.zeros(1, np.int64)
    for axis in range(cut):
        steps = np.arange(index[axis].start, index[axis].stop) * strides[axis]
        offsets = (offsets[:, None] + steps).reshape(-1)
    return offsets + index[cut].start * strides[cut], sizes[cut] * strides[cut]


def _read_runs(file: RangeFile, offsets: np.ndarray, length: int, out: memoryview) -> None:
    """Read runs of `length` bytes each into `out`, one after the other."""
    together = length + file.gap
    groups = np.flatnonzero(np.diff(offsets) > together) + 1
    starts = offsets.tolist()
    for first, last in itertools.pairwise([0, *groups.tolist(), len(starts)]):
        if last - first == 1 or starts[last - 1] - starts[first] == (last - 1 - first) * length:
            file.read_into(starts[first], out[first * length : last * length])
        else:
            _read_through(file, starts[first:last], length, out[first * length : last * length])


def _read_through(file: RangeFile, starts: list[int], length: int, out: memoryview) -> None:
    """Read runs together with the gaps between them, in spans of about STORE_BYTES, and keep the runs."""
    first = 0
    while first < len(starts):
        last = first + 1
        while last < len(starts) and starts[last] + length - starts[first] <= STORE_BYTES:
            last += 1
        span = memoryview(read_bytes(file, starts[first], starts[last - 1] + length - starts[first]))
        for number in range(first, last):
            begin = starts[number] - starts[first]
            out[number * length : (number + 1) * length] = span[begin : begin + length]
        first = last
