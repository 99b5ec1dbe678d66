"""GGUF files of the Llama layout: metadata to a config, quantised blocks to floating-point tensors.

The names and the row order are llama.cpp's; what its converter did to a Hugging Face checkpoint is undone here.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np

from aloe_jax.errors import InputError
from aloe_jax.hub.tensors import Tensor
from aloe_jax.models.families.llama import ARCHITECTURE

HF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
HF_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GGUFFile:
    """An open GGUF file. Tensors stay on disk until they are read.

    Raises InputError for a file that is missing, truncated, no GGUF, split into parts, or of another layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise InputError(f"GGUF file '{path}' does not exist")
        try:
            self._reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
            raise InputError(f"{path} is not a complete GGUF file ({error}); download it again") from None
        architecture = self.get("general.architecture", "")
        if architecture != "llama":
            raise InputError(f"{path}: general.architecture is '{architecture}'; only 'llama' is supported")
        if self.get("split.count", 1) > 1:
            raise InputError(
                f"{path} is one of {self.get('split.count')} parts; merge them with `llama-gguf-split --merge`"
            )

    def get(self, key: str, default: Any = None) -> Any:
        """The metadata value of `key`, as Python objects; InputError if its text is not UTF-8."""
        field = self._reader.get_field(key)
        try:
            return default if field is None else field.contents()
        except UnicodeDecodeError:
            raise InputError(f"{self.path}: metadata key '{key}' is not UTF-8 text; download the file again") from None

    def require(self, key: str) -> Any:
        """The metadata value of `key`; InputError if it is absent."""
        value = self.get(key)
        if value is None:
            raise InputError(f"{self.path}: metadata key '{key}' is missing; the file does not describe a Llama model")
        return value

    def size(self, key: str, default: int | None = None) -> int:
        """The metadata value of `key` as a positive integer; InputError if it is something else."""
        value = self.require(key) if default is None else self.get(key, default)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{self.path}: metadata key '{key}' is {value!r}; expected a positive integer")
        return value

    def hf_config(self) -> dict[str, Any]:
        """The content of a Hugging Face `config.json`, as far as the model itself goes.

        Raises InputError for a missing key, for scaled or partial rotary positions and for mixtures of experts.
        """
        dim, heads = self.size("llama.embedding_length"), self.size("llama.attention.head_count")
        head_dim = self.size("llama.attention.key_length", dim // heads)
        supported = {
            "llama.rope.scaling.type": "none",
            "llama.rope.dimension_count": head_dim,
            "llama.attention.value_length": head_dim,
            "llama.expert_count": 0,
        }
        for key, expected in supported.items():
            if self.get(key, expected) != expected:
                raise InputError(f"{self.path}: {key} is {self.get(key)}; only {expected} is supported")
        return {
            "architectures": [ARCHITECTURE],
            "vocab_size": len(self.require("tokenizer.ggml.tokens")),
            "hidden_size": dim,
            "num_hidden_layers": self.size("llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.size("llama.attention.head_count_kv", heads),
            "head_dim": head_dim,
            "intermediate_size": self.size("llama.feed_forward_length"),
            "max_position_embeddings": self.size("llama.context_length"),
            "rope_theta": _decimal(self.get("llama.rope.freq_base", 10_000.0)),
            "rms_norm_eps": _decimal(self.require("llama.attention.layer_norm_rms_epsilon")),
            "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in self._reader.tensors),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by Hugging Face name. `dtype` is what dequantised values are: float32, or float16 and bfloat16 for
        matrices stored so. Names without a counterpart are kept, so that the check against the weight table names them.
        """
        heads = self.size("llama.attention.head_count")
        row_heads = {"attn_q": heads, "attn_k": self.size("llama.attention.head_count_kv", heads)}
        result: dict[str, Tensor] = {}
        for stored in self._reader.tensors:
            shape = tuple(int(size) for size in reversed(stored.shape))
            name, part = _hf_name(stored.name)
            read = functools.partial(_read, stored, row_heads.get(part), f"{self.path}: tensor '{stored.name}'")
            result[name] = Tensor(shape, _dtype(stored.tensor_type), read)
        return result


def _hf_name(name: str) -> tuple[str, str]:
    """The Hugging Face name of a GGUF tensor and its part of the layer ("attn_q"); an unknown name stays as it is."""
    stem, _, kind = name.rpartition(".")
    if stem in HF_NAMES:
        return f"{HF_NAMES[stem]}.{kind}", stem
    prefix, _, part = stem.rpartition(".")
    if prefix.startswith("blk.") and part in HF_LAYER_NAMES:
        return f"model.layers.{prefix.removeprefix('blk.')}.{HF_LAYER_NAMES[part]}.{kind}", part
    return name, ""


def _dtype(kind: gguf.GGMLQuantizationType) -> np.dtype:
    """What a tensor's values need.

    Dequantisation is arithmetic in f32: an 11-bit scale times a 4- to 8-bit integer plus an offset needs 15 bits and
    more, where float16 keeps 11 and bfloat16 8. On SmolLM2 rounding would move log-probabilities of tokens by up to
    0.016 (float16) and 0.086 (bfloat16); the 270 MB saved are not worth that, and f32 loads without a conversion.
    """
    plain = {gguf.GGMLQuantizationType.F16: np.float16, gguf.GGMLQuantizationType.BF16: ml_dtypes.bfloat16}
    return np.dtype(plain.get(kind, np.float32))


def _read(stored: gguf.ReaderTensor, heads: int | None, where: str) -> np.ndarray:
    try:
        values = gguf.dequantize(stored.data, stored.tensor_type)
    except (NotImplementedError, ValueError) as error:
        raise InputError(f"{where} is stored as {stored.tensor_type.name}, which cannot be read ({error})") from None
    return values if heads is None else split_halves(values, heads)


def split_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's row order of query and key projections.

    It rotates neighbouring rows (0,1), (2,3), ... of a head together; Hugging Face rotates row i with row
    i + head_dim / 2. `rows` is [heads * head_dim, in].
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _decimal(value: float) -> float:
    """The shortest decimal that rounds to the same f32: GGUF stores 1e-5 as 9.999999747e-06."""
    return float(str(np.float32(value)))
