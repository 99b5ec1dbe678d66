"""GGUF files: metadata, and tensors under their Hugging Face names.

The names and the row order in the file are llama.cpp's; the changes of its converter to a Hugging Face checkpoint are
undone here, as the file's layout (layouts.py) describes them. Quantised blocks become floating-point tensors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np

from aloe_jax.errors import InputError
from aloe_jax.hub.gguf.header import check_header
from aloe_jax.hub.gguf.layouts import LAYOUTS
from aloe_jax.hub.tensors import Tensor

ROPE_FACTORS = "rope_freqs.weight"  # metadata in the form of a tensor


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _all(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


@dataclass(frozen=True)
class _Kind:
    """What the values of keys with this end are: in words, and as a condition."""

    end: str
    words: str
    holds: Callable[[object], bool]


_KINDS = (
    _Kind("general.architecture", "a text", _is_text),
    _Kind("split.count", "a whole number", _is_whole),
    _Kind(".rope.scaling.type", "a text", _is_text),
    _Kind("tokenizer.ggml.model", "a text", _is_text),
    _Kind("tokenizer.ggml.pre", "a text", _is_text),
    _Kind("tokenizer.chat_template", "a text", _is_text),
    _Kind("tokenizer.ggml.tokens", "a list of texts", _all(_is_text)),
    _Kind("tokenizer.ggml.merges", "a list of texts", _all(lambda one: isinstance(one, str) and " " in one)),
    _Kind("tokenizer.ggml.token_type", "a list of whole numbers", _all(_is_whole)),
    _Kind("tokenizer.ggml.scores", "a list of numbers", _all(_is_number)),
    _Kind("_token_id", "a whole number", _is_whole),
    _Kind("_token", "true or false", lambda value: isinstance(value, bool)),
    _Kind("_space_prefix", "true or false", lambda value: isinstance(value, bool)),
)


def _kind(key: str) -> _Kind | None:
    """What the values of a key are; None if they are checked where they are used."""
    return next((kind for kind in _KINDS if key.endswith(kind.end)), None)


class GGUFFile:
    """An open GGUF file. Tensors stay on disk until they are read.

    Raises InputError for a file that is missing, truncated, no GGUF, split into parts, or of a layout that is not in
    the table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise InputError(f"GGUF file '{path}' does not exist")
        check_header(path)
        try:
            self._reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
            raise InputError(f"{path} is not a complete GGUF file ({error}); download it again") from None
        self._values: dict[str, object] = {}
        self.architecture = self.get("general.architecture", "")
        if self.architecture not in LAYOUTS:
            raise InputError(
                f"{path}: general.architecture is '{self.architecture}'; supported are {', '.join(LAYOUTS)}; "
                "import the model's Hugging Face folder instead"
            )
        self.layout = LAYOUTS[self.architecture]
        self._stored = {tensor.name: tensor for tensor in self._reader.tensors}
        if self.get("split.count", 1) > 1:
            raise InputError(
                f"{path} is one of {self.get('split.count')} parts; merge them with `llama-gguf-split --merge`"
            )

    def get(self, key: str, default: Any = None) -> Any:
        """The metadata value of `key` as Python objects. Raises InputError for text that is not UTF-8."""
        field = self._reader.get_field(key)
        if field is None:
            return default
        if key not in self._values:  # decoding a vocabulary takes a second, and each special token reads it
            try:
                value = field.contents()
            except UnicodeDecodeError:
                raise InputError(
                    f"{self.path}: metadata key '{key}' is not UTF-8 text; download the file again"
                ) from None
            if (kind := _kind(key)) and not kind.holds(value):
                shown = str(value)[:60]
                raise InputError(f"{self.path}: metadata key '{key}' is {shown!r}; expected {kind.words}")
            self._values[key] = value
        return self._values[key]

    def require(self, key: str) -> Any:
        """The metadata value of `key`. Raises InputError if it is absent."""
        value = self.get(key)
        if value is None:
            raise InputError(f"{self.path}: metadata key '{key}' is missing; the file does not describe a whole model")
        return value

    def key(self, name: str) -> str:
        """The metadata key of one of the model's own values, which starts with the architecture."""
        return f"{self.architecture}.{name}"

    def model(self, name: str, default: Any = None) -> Any:
        """The model's own value `name`, such as "block_count"."""
        return self.get(self.key(name), default)

    def size(self, name: str, default: int | None = None) -> int:
        """The model's own value `name` as a positive integer. Raises InputError if it is something else, or absent
        without a default."""
        value = self.require(self.key(name)) if default is None else self.model(name, default)
        if not _is_whole(value) or value < 1:
            raise InputError(f"{self.path}: metadata key '{self.key(name)}' is {value!r}; expected a positive integer")
        return value

    def decimal(self, name: str, default: float | None = None) -> float:
        """The model's own value `name` as the shortest decimal that rounds to the same f32: GGUF stores 1e-5 as
        9.999999747e-06. Raises InputError if it is not a number, or absent without a default."""
        value = self.require(self.key(name)) if default is None else self.model(name, default)
        if not _is_number(value):
            raise InputError(f"{self.path}: metadata key '{self.key(name)}' is {value!r}; expected a number")
        return float(str(np.float32(value)))

    def positive(self, name: str, default: float | None = None) -> float:
        """As `decimal`. Raises InputError also for a number that is not above 0."""
        value = self.decimal(name, default)
        if value <= 0:
            raise InputError(
                f"{self.path}: metadata key '{self.key(name)}' is {value:g}; expected a number above 0; import the "
                "model's Hugging Face folder instead"
            )
        return value

    @property
    def count(self) -> int:
        """The number of tensors."""
        return len(self._stored)

    def check_layers(self) -> None:
        """Raise InputError for more layers than the file has tensors, before anything is made for each layer."""
        if (layers := self.size("block_count")) > self.count:
            key = self.key("block_count")
            raise InputError(
                f"{self.path}: metadata key '{key}' is {layers}, the file has {self.count} tensors; download it again"
            )

    def holds(self, tensor: str) -> bool:
        """Whether the file has a tensor of this GGUF name."""
        return tensor in self._stored

    def read(self, tensor: str) -> np.ndarray:
        """The dequantised values of a tensor by its GGUF name, in the layout of the file."""
        return _dequantised(self._stored[tensor], f"{self.path}: tensor '{tensor}'")

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by Hugging Face name. `dtype` is the type of the dequantised values: float32, or float16 and
        bfloat16 for matrices stored so. Names without a counterpart are kept for the error of the check against the
        weight table.
        """
        layout = self.layout
        heads = self.size("attention.head_count")
        row_heads = {"attn_q": heads, "attn_k": self.size("attention.head_count_kv", heads)}
        result: dict[str, Tensor] = {}
        for stored in self._reader.tensors:
            if layout.rope_factors and stored.name == ROPE_FACTORS:
                continue
            name, part = layout.hf_name(stored.name)
            read = functools.partial(
                _read,
                stored,
                f"{self.path}: tensor '{stored.name}'",
                heads=row_heads.get(part) if layout.paired_rows else None,
                offset=layout.norm_offset if part.endswith("_norm") else 0.0,
            )
            shape = tuple(int(size) for size in reversed(stored.shape))
            result[name] = Tensor(shape, _dtype(stored.tensor_type), read)
        return result


def _dtype(kind: gguf.GGMLQuantizationType) -> np.dtype:
    """The type of a tensor's dequantised values.

    Dequantisation is arithmetic in f32: an 11-bit scale times a 4- to 8-bit integer plus an offset needs 15 bits and
    more, where float16 keeps 11 and bfloat16 8. On SmolLM2 rounding would move log-probabilities of tokens by up to
    0.016 (float16) and 0.086 (bfloat16); the 270 MB saved are not worth that, and f32 loads without a conversion.
    """
    plain = {gguf.GGMLQuantizationType.F16: np.float16, gguf.GGMLQuantizationType.BF16: ml_dtypes.bfloat16}
    return np.dtype(plain.get(kind, np.float32))


# Damaged blocks give NaN and infinities, which are refused by name when the values are checked.
_quietly = np.errstate(invalid="ignore", over="ignore")


@_quietly
def _read(stored: gguf.ReaderTensor, where: str, heads: int | None, offset: float) -> np.ndarray:
    """A tensor's values in Hugging Face's layout and their own type."""
    values = _dequantised(stored, where)
    if heads is not None:
        values = split_halves(values, heads)
    if offset:  # it was added in f32: a bfloat16 weight (8 bits) of 2^-16 or more is restored exactly
        values = values - np.float32(offset)
    return values.astype(_dtype(stored.tensor_type), copy=False)


@_quietly
def _dequantised(stored: gguf.ReaderTensor, where: str) -> np.ndarray:
    try:
        return gguf.dequantize(stored.data, stored.tensor_type)
    except (NotImplementedError, ValueError) as error:
        raise InputError(f"{where} is stored as {stored.tensor_type.name}, which cannot be read ({error})") from None


def split_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's row order of query and key projections.

    It rotates neighbouring rows (0,1), (2,3), ... of a head together; Hugging Face rotates row i with row
    i + head_dim / 2. `rows` is [heads * head_dim, ...]: a weight or a bias.
    """
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)
