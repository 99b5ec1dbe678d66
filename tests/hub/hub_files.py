"""Small files the hub's tests read: vocabulary-only GGUF files, tiny random Llama folders."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from aloe_jax.hub import families, gguf_file, source
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


def write_gguf(path: Path, config: ModelConfig, kinds: dict[str, gguf.GGMLQuantizationType], **metadata: Any) -> Path:
    """A tiny GGUF Llama: random tensors, each quantised as `kinds` says for its GGUF part name (default F32).

    The tensors before quantisation are `tiny_tensors(config)`; query and key rows are put in llama.cpp's order.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.dim)
    writer.add_feed_forward_length(config.mlp_dim)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_freq_base(config.pattern[0].rope.theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    settings = {"tokenizer.chat_template": TEMPLATE, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}
    for key, value in (settings | metadata).items():
        writer.add_key_value(key, value, _kind(value))
    tokens = ["t0", "t", "0", *(f"word{number}" for number in range(config.vocab - 4)), "<|im_end|>"]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (config.vocab - 1) + [3])
    if "tokenizer.ggml.merges" not in metadata:
        writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(config.vocab - 1)
    parts = {hf: ours for ours, hf in (gguf_file.HF_NAMES | gguf_file.HF_LAYER_NAMES).items()}
    for name, array in tiny_tensors(config).items():
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        in_layer = name.startswith("model.layers.")
        part = parts[(rest if in_layer else name).removesuffix(".weight")]
        if part in ("attn_q", "attn_k"):
            heads = config.heads if part == "attn_q" else config.kv_heads
            array = _pair_rows(array, heads)
        kind = kinds.get(part, gguf.GGMLQuantizationType.F32)
        stored = gguf.quantize(array, kind)
        writer.add_tensor(f"blk.{layer}.{part}.weight" if in_layer else f"{part}.weight", stored, raw_dtype=kind)
    finish(writer)
    return path


def _pair_rows(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of the rows of a head: row i beside row i + head_dim / 2."""
    result = np.empty_like(rows)
    size = rows.shape[0] // heads
    for head in range(heads):
        for i in range(size // 2):
            result[head * size + 2 * i] = rows[head * size + i]
            result[head * size + 2 * i + 1] = rows[head * size + i + size // 2]
    return result


def _kind(value: Any) -> gguf.GGUFValueType:
    return gguf.GGUFValueType.get_type(value)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@functools.cache
def _smollm2_vocabulary() -> tuple[list[str], list[str]]:
    smollm2 = gguf_file.GGUFFile(source.embedded_file("smollm2"))
    return smollm2.require("tokenizer.ggml.tokens"), smollm2.require("tokenizer.ggml.merges")


def write_vocabulary(path: Path, pre: str, merges: int = 4000) -> Path:
    """A GGUF file without tensors: SmolLM2's special tokens, its bytes and its first merges, cut as `pre` says."""
    tokens, every_merge = _smollm2_vocabulary()
    kept = every_merge[:merges]
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
