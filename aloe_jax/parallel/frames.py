"""Messages over a stream socket: a length, a JSON header of that length, then the raw bytes that the header describes.

Nothing of what arrives is executed: no pickle, and every size and type is checked before memory is taken for it.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

LARGEST_HEADER = 1 << 20  # bytes
LARGEST_BODY = 1 << 30  # bytes of all arrays of a message together
_LENGTH = struct.Struct("<I")
_SIZES = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64), "bfloat": (16,)}
_TYPES = {"bool"} | {f"{kind}{bits}" for kind, sizes in _SIZES.items() for bits in sizes}  # names of array types
Message = bytes | list[np.ndarray]
Fields = Mapping[str, str | int | bool]


class FrameError(Exception):
    """What arrived is no frame, or one that is too large."""


@dataclass(frozen=True)
class Frame:
    """A message with its kind, plain fields, and the payload: bytes or arrays."""

    kind: str
    fields: Fields = field(default_factory=dict)
    message: Message = b""


def encode(kind: str, message: Sequence[np.ndarray] | bytes = b"", fields: Fields | None = None) -> list[memoryview]:
    """A frame as buffers to send in order. Arrays are sent in native byte order. ValueError for an array of a type
    other than numbers and booleans, and for a message above the largest sizes."""
    header: dict[str, object] = {"kind": kind, "fields": fields or {}}
    if isinstance(message, bytes):
        header["bytes"] = size = len(message)
        body = iter((memoryview(message),))
    else:
        for array in message:
            if array.dtype.name not in _TYPES:
                raise ValueError(f"an array of type {array.dtype} in a message; send numbers or booleans")
        header["arrays"] = [[array.dtype.name, list(array.shape)] for array in message]
        size = sum(array.nbytes for array in message)
        body = (_raw(np.ascontiguousarray(array, array.dtype.newbyteorder("="))) for array in message)
    text = json.dumps(header).encode()
    if len(text) > LARGEST_HEADER or size > LARGEST_BODY:
        raise ValueError(f"a message of {size} bytes with a header of {len(text)}; send it in parts")
    return [memoryview(_LENGTH.pack(len(text)) + text), *body]


def read(connection: socket.socket, largest: int = LARGEST_BODY) -> Frame | None:
    """The next frame, whose payload may have `largest` bytes; None if the other side has closed the connection between
    two frames. Blocks until it has arrived. Raises FrameError, and OSError if the connection is lost."""
    start = bytearray(_LENGTH.size)
    if not _fill(connection, memoryview(start), may_end=True):
        return None
    (length,) = _LENGTH.unpack(start)
    if length > LARGEST_HEADER:
        raise FrameError(f"a header of {length} bytes")
    text = bytearray(length)
    _fill(connection, memoryview(text))
    try:
        header = json.loads(text)
        kind, fields = str(header["kind"]), dict(header["fields"])
        shapes = [(str(name), tuple(int(size) for size in shape)) for name, shape in header.get("arrays", [])]
        count = int(header.get("bytes", 0))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FrameError(f"a header that cannot be read ({error!r})") from None
    if any(name not in _TYPES or any(size < 0 for size in shape) for name, shape in shapes) or count < 0:
        raise FrameError(f"arrays of {shapes}, {count} bytes")
    if count + sum(np.dtype(name).itemsize * math.prod(shape) for name, shape in shapes) > largest:
        raise FrameError(f"more than {largest} bytes")
    if "arrays" not in header:
        raw = bytearray(count)
        _fill(connection, memoryview(raw))
        return Frame(kind, fields, bytes(raw))
    arrays = [np.empty(shape, name) for name, shape in shapes]
    for array in arrays:
        _fill(connection, _raw(array))
    return Frame(kind, fields, arrays)


def _raw(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _fill(connection: socket.socket, buffer: memoryview, may_end: bool = False) -> bool:
    """Fill the buffer with what arrives; False if the connection ends before the first byte and `may_end`."""
    done = 0
    while done < len(buffer):
        count = connection.recv_into(buffer[done:])
        if not count:
            if may_end and not done:
                return False
            raise ConnectionResetError("the connection ended inside a message")
        done += count
    return True
