"""Reads a safetensors file by byte range, its header checked, and writes one tensor by tensor.

Format: 8 bytes with the header's length (little-endian), a JSON header of dtype, shape and byte range of each tensor,
and the tensors' bytes, row-major and without gaps (github.com/huggingface/safetensors).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import ml_dtypes
import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import byte_ranges
from aloe_jax.hub.byte_ranges import Index, RangeFile
from aloe_jax.stand_ins import HEAD, refuse_stand_in

# Floating-point types by safetensors' names; weights of supported models have no other types.
STORED_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
HEADER_LIMIT = 100_000_000  # bytes, as in the safetensors library
METADATA = "__metadata__"


class Entry(TypedDict):
    """A tensor in the header."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]  # its first byte and the one after its last, from the end of the header


@dataclass(frozen=True)
class Tensor:
    """A tensor that is read on demand. `dtype` is None for a type other than the known floating-point types."""

    shape: tuple[int, ...]
    dtype: np.dtype | None
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class FileTensor(Tensor):
    """A tensor of a file whose blocks can be read: `read_block(shape, index)` is the block `index`, slices with a start
    and a stop, of the tensor's elements as a row-major array of `shape`."""

    read_block: Callable[[tuple[int, ...], Index], np.ndarray]


def read_file(path: epath.PathLike) -> dict[str, FileTensor]:
    """The tensors of a safetensors file by name. Only the header is read, and checked against the file's size.

    Raises InputError for a file that is unreadable, truncated or of another format.
    """
    file = byte_ranges.open_file(path)
    try:
        header, begin = _header(file)
        return {name: _tensor(file, begin, entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        refuse_stand_in(path, bytes(byte_ranges.read_bytes(file, 0, min(HEAD, file.size))))
        raise InputError(
            f"{path} is not a complete safetensors file ({byte_ranges.reason(error)}); download it again"
        ) from None


def _header(file: RangeFile) -> tuple[dict[str, Entry], int]:
    """The entries of the tensors, and the offset of their bytes. Raises ValueError and its like for malformed files."""
    if file.size < 8:
        raise ValueError(f"it has {file.size} bytes")
    length = int.from_bytes(byte_ranges.read_bytes(file, 0, 8), "little")
    if length > min(HEADER_LIMIT, file.size - 8):
        raise ValueError("its header is cut off or none")
    header = files.loads(bytes(byte_ranges.read_bytes(file, 8, length)).decode("utf-8"))
    notes = header.pop(METADATA, {})
    if not all(isinstance(text, str) for text in notes.values()):
        raise ValueError(f"its header has {METADATA} that are no texts")
    begin, covered = 8 + length, 0
    if not all(type(place) is int for entry in header.values() for place in entry["data_offsets"]):
        raise ValueError("its header has data_offsets that are no whole numbers")
    for first, last in sorted(entry["data_offsets"] for entry in header.values()):
        if first != covered or last < first:
            raise ValueError(f"its header leaves a hole or an overlap at byte {first} of the data")
        covered = last
    if begin + covered != file.size:
        raise ValueError(f"its header describes {begin + covered} bytes, the file has {file.size}")
    return header, begin


def _tensor(file: RangeFile, begin: int, entry: Entry) -> FileTensor:
    shape, dtype = tuple(entry["shape"]), STORED_DTYPES.get(entry["dtype"])
    first, last = entry["data_offsets"]
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"its header names a tensor of shape {list(shape)}")
    if dtype is not None and math.prod(shape) * dtype.itemsize != last - first:
        raise ValueError(f"its header gives {last - first} bytes to a tensor {entry['dtype']} {list(shape)}")
    whole = tuple(slice(0, size) for size in shape)
    block = functools.partial(_block, file, begin + first, dtype)
    return FileTensor(shape, dtype, functools.partial(block, shape, whole), block)


def _block(file: RangeFile, begin: int, dtype: np.dtype | None, shape: tuple[int, ...], index: Index) -> np.ndarray:
    assert dtype is not None, "tensors.checked() refuses tensors without a type"
    return byte_ranges.read_block(file, begin, shape, dtype, index)


def write_file(path: Path, tensors: Mapping[str, Tensor], dtype: np.dtype | None) -> None:
    """Write `tensors` in their order, one in memory at a time. `dtype` None keeps the type of each.

    Raises InputError for a tensor with a value that is not finite, or is not in its stored type, and OSError for a
    failed write.
    """
    names = {stored: name for name, stored in STORED_DTYPES.items()}
    header: dict[str, object] = {METADATA: {"format": "pt"}}  # transformers requires the name of the format
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + stored_bytes(tensor, dtype)
        stored = names[stored_dtype(tensor, dtype)]
        header[name] = Entry(dtype=stored, shape=list(tensor.shape), data_offsets=[begin, end])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            array = _converted(name, tensor.read(), stored_dtype(tensor, dtype))
            out.write(array.reshape(-1).view(np.uint8).data)


def _converted(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A tensor's elements in its stored type. InputError naming the tensor where that would change them beyond
    rounding, or name a type that they no longer have."""
    if array.dtype.itemsize < dtype.itemsize == 8:
        raise InputError(
            f"tensor '{name}' is {dtype} and was rounded to {array.dtype}; choose --dtype=float32, or keep it as it is "
            "with `aloe import`"
        )
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array, dtype)
    if np.isfinite(found).all():
        return found
    if np.isfinite(array).all():
        largest = np.abs(array).max()
        raise InputError(
            f"tensor '{name}' has the value {largest:.4g}, beyond the {float(ml_dtypes.finfo(dtype).max):.4g} of "
            f"{dtype}; choose a wider --dtype, such as float32"
        )
    raise InputError(f"tensor '{name}' has a value that is not finite ({array[~np.isfinite(array)][0]}); it is damaged")


def stored_dtype(tensor: Tensor, dtype: np.dtype | None) -> np.dtype:
    """The type that a tensor is written in: `dtype`, or its own type if that is None."""
    stored = dtype or tensor.dtype
    assert stored is not None, "tensors.checked() refuses tensors without a type"
    return stored


def stored_bytes(tensor: Tensor, dtype: np.dtype | None) -> int:
    """The number of bytes of a tensor written as `dtype`, or as its own type if that is None."""
    return math.prod(tensor.shape) * stored_dtype(tensor, dtype).itemsize
