"""Small files for the tests of the hub: vocabulary-only GGUF files, tiny random Llama folders."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from aloe_jax.hub import families, source
from aloe_jax.hub.gguf.file import GGUFFile
from aloe_jax.models.config import Layer, ModelConfig
from aloe_jax.models.rope import Rope

TINY = ModelConfig(
    family="llama",
    vocab=96,
    dim=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    mlp_dim=96,
    pattern=(Layer(Rope(10_000.0)),),
    norm_eps=1e-5,
    context=128,
    tied=False,
)
TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"


def tiny_tensors(config: ModelConfig, dtype: Any = np.float32, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors by Hugging Face name."""
    draw = np.random.default_rng(seed)
    return {
        name: draw.standard_normal(weight.shape, np.float32).astype(dtype)
        for weight in families.weights(config)
        for name in families.tensor_names(weight, config)
    }


def write_tokenizer_files(folder: Path, vocab: int) -> None:
    """A byte-level tokenizer with `vocab` tokens at most, and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: vocab - 1]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def write_tiny(folder: Path, config: ModelConfig = TINY, dtype: Any = np.float32, shards: int = 1) -> Path:
    """A complete Hugging Face folder with random weights, written by the safetensors library alone."""
    folder.mkdir(parents=True)
    tensors = tiny_tensors(config, dtype)
    names = list(tensors)
    parts = [names[start::shards] for start in range(shards)]
    weight_map = {}
    for number, part in enumerate(parts):
        file = "model.safetensors" if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    if shards > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    settings = families.hf_config(config, np.dtype(dtype).name) | {"eos_token_id": config.vocab - 1}
    (folder / "config.json").write_text(json.dumps(settings))
    write_tokenizer_files(folder, config.vocab)
    return folder


def weights_size(folder: Path) -> int:
    """Bytes of a folder's safetensors files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


# llama.cpp's names of Hugging Face's architectures. The names of tensors are those of `gguf`.
GGUF_ARCHITECTURES = {
    "LlamaForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "Qwen2ForCausalLM": gguf.MODEL_ARCH.QWEN2,
    "Qwen3ForCausalLM": gguf.MODEL_ARCH.QWEN3,
    "Gemma3ForCausalLM": gguf.MODEL_ARCH.GEMMA3,
}


def write_gguf(
    path: Path,
    config: ModelConfig,
    kinds: dict[str, gguf.GGMLQuantizationType],
    tensors: dict[str, np.ndarray] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    **metadata: Any,
) -> Path:
    """A tiny GGUF file as llama.cpp's converter writes it. `metadata` is added or replaces its own (None: without).

    `tensors` (default `tiny_tensors(config)`) are Hugging Face's, float32; each is quantised as `kinds` says for its
    GGUF part name, such as "attn_q" (default F32). `extra` tensors are written as they are.
    """
    settings = families.hf_config(config, "float32")
    architecture = GGUF_ARCHITECTURES[settings["architectures"][0]]
    name = gguf.MODEL_ARCH_NAMES[architecture]
    writer = gguf.GGUFWriter(path, name)
    tokens = ["t0", "t", "0", *(f"word{number}" for number in range(config.vocab - 4)), "<|im_end|>"]
    values = _parameters(name, settings) | {
        "tokenizer.chat_template": TEMPLATE,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (config.vocab - 1) + [3],
        "tokenizer.ggml.merges": ["t 0"],
        "tokenizer.ggml.eos_token_id": config.vocab - 1,
    }
    _write_values(writer, values | metadata)
    names = gguf.get_tensor_name_map(architecture, config.layers)
    for hf_name, array in (tiny_tensors(config) if tensors is None else tensors).items():
        stored_name = names.get_name(hf_name, try_suffixes=(".weight", ".bias"))
        part = stored_name.split(".")[-2]
        if name == "llama" and part in ("attn_q", "attn_k"):
            array = _pair_rows(array, config.heads if part == "attn_q" else config.kv_heads)
        if name == "gemma3" and hf_name.endswith("norm.weight"):
            array = array + np.float32(1)
        kind = kinds.get(part, gguf.GGMLQuantizationType.F32)
        writer.add_tensor(stored_name, _blocks(array, kind), raw_dtype=kind)
    rope = settings["rope_scaling"] or {}
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(settings["rope_theta"], config.head_dim, **rope))
    for stored_name, array in (extra or {}).items():
        writer.add_tensor(stored_name, array)
    finish(writer)
    return path


def _blocks(array: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """The array quantised. K-quants, which `gguf` can only read, are random blocks instead: a clear bit 6 in every byte
    keeps their f16 scales below 2, at any position."""
    try:
        return gguf.quantize(array, kind)
    except NotImplementedError:
        shape = gguf.quant_shape_to_byte_shape(array.shape, kind)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8) & 0xBF


def _parameters(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The metadata that the converter writes for the content of a config.json."""
    head_dim = settings["head_dim"]
    values = {
        "block_count": settings["num_hidden_layers"],
        "context_length": settings["max_position_embeddings"],
        "embedding_length": settings["hidden_size"],
        "feed_forward_length": settings["intermediate_size"],
        "attention.head_count": settings["num_attention_heads"],
        "attention.head_count_kv": settings["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": settings["rms_norm_eps"],
        "rope.freq_base": settings["rope_theta"],
    }
    if name != "qwen2":  # its config.json has no head_dim
        values |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if name == "llama":
        values |= {"vocab_size": settings["vocab_size"], "rope.dimension_count": head_dim}
    if name == "gemma3":
        types = settings["layer_types"]
        values |= {
            "rope.freq_base_swa": settings["rope_local_base_freq"],
            "attention.sliding_window": settings["sliding_window"],
            "attention.sliding_window_pattern": types.index("full_attention") + 1,
        }
    rope = settings["rope_scaling"] or {}
    if rope.get("rope_type") == "linear":
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    return {f"{name}.{key}": value for key, value in values.items()}


def llama3_factors(
    theta: float,
    head_dim: int,
    *,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: int,
    rope_type: str = "llama3",
) -> np.ndarray:
    """The divisor of each frequency in Llama 3.1 (`rope_freqs.weight`), computed in f32 as the converter does."""
    original, low, high, scale = (
        np.float32(value) for value in (original_max_position_embeddings, low_freq_factor, high_freq_factor, factor)
    )
    one = np.float32(1)
    result = []
    for pair in range(head_dim // 2):
        frequency = one / np.float32(theta) ** np.float32(2 * pair / head_dim)
        wavelength = np.float32(2 * np.pi) / frequency
        smooth = (original / wavelength - low) / (high - low)
        if wavelength < original / high:
            result.append(one)
        elif wavelength > original / low:
            result.append(scale)
        else:
            result.append(one / ((one - smooth) / scale + smooth))
    return np.array(result)


def _pair_rows(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of the rows of a head: row i beside row i + head_dim / 2."""
    result = np.empty_like(rows)
    size = rows.shape[0] // heads
    for head in range(heads):
        for i in range(size // 2):
            result[head * size + 2 * i] = rows[head * size + i]
            result[head * size + 2 * i + 1] = rows[head * size + i + size // 2]
    return result


def _write_values(writer: gguf.GGUFWriter, values: dict[str, Any]) -> None:
    """Write metadata except None. llama.cpp reads sizes and ids as unsigned."""
    for key, value in values.items():
        if value is not None:
            kind = gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)
            element = gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
            writer.add_key_value(key, value, kind, element)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@functools.cache
def _smollm2_vocabulary() -> tuple[list[str], list[str]]:
    smollm2 = GGUFFile(source.embedded_file("smollm2"))
    return smollm2.require("tokenizer.ggml.tokens"), smollm2.require("tokenizer.ggml.merges")


def write_vocabulary(path: Path, pre: str, merges: int = 4000) -> Path:
    """A GGUF file without tensors: SmolLM2's special tokens, its bytes and its first merges, cut as `pre` says.

    SmolLM2 has no token of several digits, so two are added: pre-tokenisers differ in how many digits stay together.
    """
    tokens, every_merge = _smollm2_vocabulary()
    kept = [*every_merge[:merges], "1 2", "12 3"]
    special = tokens[:17]
    made = ["".join(merge.split(" ")) for merge in kept]
    vocabulary = special + [token for token in tokens[17:] if len(token) == 1] + made
    vocabulary = list(dict.fromkeys(vocabulary))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * 17 + [1] * (len(vocabulary) - 17))
    writer.add_token_merges(kept)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    finish(writer)
    return path


def write_sentencepiece(path: Path, kind: str, words: dict[str, Any], **metadata: Any) -> Path:
    """A GGUF file without tensors: a SentencePiece vocabulary of tests/fixtures/hub, "gemma" or "llama"."""
    writer = gguf.GGUFWriter(path, "gemma3" if kind == "gemma" else "llama")
    _write_values(writer, sentencepiece_metadata(kind, words) | metadata)
    finish(writer)
    return path


def sentencepiece_metadata(kind: str, words: dict[str, Any]) -> dict[str, Any]:
    """What the converter writes for such a vocabulary."""
    names = {"bos": "<s>", "eos": "</s>", "unknown": "<unk>"}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": words["tokens"],
        "tokenizer.ggml.scores": [float(score) for score in words["scores"]],
        "tokenizer.ggml.token_type": words["kinds"],
        **{f"tokenizer.ggml.{name}_token_id": words["tokens"].index(token) for name, token in names.items()},
        "tokenizer.ggml.add_space_prefix": False if kind == "gemma" else None,
    }
