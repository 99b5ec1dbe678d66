"""GGUF tensors and metadata: exact for plain types, within a step for quantised ones, one sentence for broken files."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub import tensors
from aloe_jax.hub.gguf.convert import convert_gguf
from aloe_jax.hub.gguf.file import GGUFFile
from helpers import gguf_models, hub_files

KIND = gguf.GGMLQuantizationType


def _read(file):
    return {name: tensor.read() for name, tensor in GGUFFile(file).tensors().items()}


@pytest.mark.parametrize(("kind", "dtype"), [(KIND.F16, "float16"), (KIND.BF16, "bfloat16")])
def test_half_precision_keeps_its_type(tmp_path, kind, dtype):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {"ffn_up": kind})
    tensor = GGUFFile(file).tensors()["model.layers.1.mlp.up_proj.weight"]
    original = hub_files.tiny_tensors(hub_files.TINY)["model.layers.1.mlp.up_proj.weight"]
    assert tensor.dtype == dtype
    assert tensor.read().dtype == dtype  # what is written to the folder
    np.testing.assert_array_equal(tensor.read(), original.astype(dtype))


@pytest.mark.parametrize(("kind", "steps"), [(KIND.Q8_0, 254), (KIND.Q4_0, 16), (KIND.Q4_1, 15)])
def test_quantised_within_a_step(tmp_path, kind, steps):
    """A block of 32 values spans at most 2 max|w|, cut in `steps` steps; rounding is off by half a step, Q4_0 by a
    whole one at the far end; scale and offset are f16 (2^-11 relative)."""
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, dict.fromkeys(("attn_q", "ffn_down"), kind))
    found, original = _read(file), hub_files.tiny_tensors(hub_files.TINY)
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"):
        largest = np.abs(original[name]).max()
        bound = 2 * largest / steps * (1.0 if kind == KIND.Q4_0 else 0.5) + largest * 2**-10
        error = np.abs(found[name] - original[name]).max()
        assert 0 < error <= bound


def test_k_quants_by_hand(tmp_path):
    """A Q4_K block by the format's definition: d = 0.5, all eight sub-block scales 3, no offset, all values 5:
    0.5 x 3 x 5 = 7.5."""
    block = np.concatenate(
        [
            np.array([0.5, 0.0], np.float16).view(np.uint8),
            np.array([3] * 4 + [0] * 4 + [3] * 4, np.uint8),  # scales 0-3, offsets 0-3, low bits of scales 4-7
            np.full(128, 0x55, np.uint8),
        ]
    )
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    writer.add_head_count(4)
    writer.add_tensor("blk.0.ffn_up.weight", np.tile(block, (3, 1)), raw_dtype=KIND.Q4_K)
    hub_files.finish(writer)
    tensor = GGUFFile(tmp_path / "k.gguf").tensors()["model.layers.0.mlp.up_proj.weight"]
    assert tensor.shape == (3, 256)
    np.testing.assert_array_equal(tensor.read(), np.full((3, 256), 7.5, np.float32))


def test_k_quants_of_random_bytes(tmp_path):
    """Q6_K by the format's definition, value by value: value i has four bits in `low`, two in `high`, one of 16 scales;
    it is d x scale x (bits - 32), exact in f32 (11 + 8 + 6 bits and a sign fill 24)."""
    draw = np.random.default_rng(0)
    low, high = (draw.integers(0, 256, size, np.uint8) for size in (128, 64))
    scales, d = draw.integers(-128, 128, 16, np.int8), np.float16(0.01)
    block = np.concatenate([low, high, scales.view(np.uint8), np.array([d]).view(np.uint8)])
    expected = []
    for i in range(256):
        half, row, column = i // 128, i % 128 // 32, i % 32
        bits = low[64 * half + 32 * (row % 2) + column] >> 4 * (row // 2) & 15
        bits |= (high[32 * half + column] >> 2 * row & 3) << 4
        expected.append(float(d) * int(scales[i // 16]) * (int(bits) - 32))
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "gemma3")
    writer.add_head_count(4)
    writer.add_tensor("blk.0.ffn_down.weight", block[None], raw_dtype=KIND.Q6_K)
    hub_files.finish(writer)
    found = GGUFFile(tmp_path / "k.gguf").tensors()["model.layers.0.mlp.down_proj.weight"].read()
    np.testing.assert_array_equal(found, np.array([expected], np.float32))


def test_unsupported_type_is_named(tmp_path):
    """Whole numbers are no weights."""
    writer = gguf.GGUFWriter(tmp_path / "i.gguf", "qwen3")
    writer.add_head_count(4)
    writer.add_tensor("output_norm.weight", np.ones(8, np.int32))
    hub_files.finish(writer)
    with pytest.raises(InputError, match=r"tensor 'output_norm.weight' is stored as I32, which cannot be read"):
        GGUFFile(tmp_path / "i.gguf").tensors()["model.norm.weight"].read()


def test_unknown_tensor_is_named(tmp_path):
    config = hub_files.TINY
    found = GGUFFile(hub_files.write_gguf(tmp_path / "f.gguf", config, {})).tensors()
    found["blk.0.attn_sub_norm.weight"] = found["model.norm.weight"]
    with pytest.raises(InputError, match=r"tensor 'blk.0.attn_sub_norm.weight' does not belong to llama"):
        tensors.checked(found, config, "f.gguf")


@pytest.mark.parametrize("architecture", ["gemma2", "qwen2moe", ""])
def test_other_architectures_are_refused(tmp_path, architecture):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{"general.architecture": architecture})
    with pytest.raises(
        InputError, match=f"architecture is '{architecture}'; supported are llama, qwen2, qwen3, gemma3"
    ):
        GGUFFile(file)


def test_parts_are_refused(tmp_path):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{"split.count": 3})
    with pytest.raises(InputError, match="one of 3 parts"):
        GGUFFile(file)


@pytest.mark.parametrize("keep", [0, 3, 40, 2_000, 60_000, -1])
def test_truncated_at_any_place(tmp_path, keep):
    whole = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}).read_bytes()
    (tmp_path / "t.gguf").write_bytes(whole[:keep])
    with pytest.raises(InputError, match=r"t.gguf is not a complete GGUF file .*download it again"):
        convert_gguf(tmp_path / "t.gguf", tmp_path)


def test_text_that_is_not_utf8(tmp_path):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{"tokenizer.ggml.pre": "smollm"})
    file.write_bytes(file.read_bytes().replace(b"smollm", b"smo\xff\xff\xff"))
    with pytest.raises(InputError, match=r"metadata key 'tokenizer.ggml.pre' is not UTF-8 text"):
        convert_gguf(file, tmp_path)


def test_foreign_and_missing_files(tmp_path):
    (tmp_path / "f.gguf").write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(InputError, match="not a complete GGUF file"):
        GGUFFile(tmp_path / "f.gguf")
    with pytest.raises(InputError, match="does not exist"):
        GGUFFile(tmp_path / "g.gguf")


@pytest.mark.parametrize("count", [2**20, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("kind", [0, 4, 8, 9, 12])
def test_an_array_that_is_longer_than_the_file_takes_no_memory(tmp_path, kind, count):
    """50 bytes: the head, a key of one letter, an array of `count` elements, nothing behind it."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k"
    (tmp_path / "f.gguf").write_bytes(head + struct.pack("<IIQ", 9, kind, count) + b"\0")
    with pytest.raises(InputError, match=r"is not a complete GGUF file \("):
        GGUFFile(tmp_path / "f.gguf")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("tokenizer.ggml.tokens", 3, "a list of texts"),
        ("tokenizer.ggml.tokens", [3], "a list of texts"),
        ("tokenizer.ggml.merges", 1, "a list of texts"),
        ("tokenizer.ggml.merges", ["ab"], "a list of texts"),
        ("tokenizer.ggml.token_type", 7, "a list of whole numbers"),
        ("tokenizer.ggml.eos_token_id", "gpt2", "a whole number"),
        ("tokenizer.ggml.padding_token_id", True, "a whole number"),
        ("tokenizer.ggml.add_bos_token", "yes", "true or false"),
        ("tokenizer.chat_template", 1, "a text"),
        ("tokenizer.ggml.pre", ["a"], "a text"),
        ("llama.block_count", True, "a positive integer"),
        ("llama.block_count", 2**31, "the file has"),
        ("llama.rope.freq_base", float("nan"), "a number"),
        ("llama.rope.scaling.type", 1, "a text"),
    ],
)
def test_metadata_of_another_kind_is_refused_by_its_key(tmp_path, key, value, expected):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{key: value})
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError) as caught:
        convert_gguf(file, tmp_path / "out")
    assert key in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_text_that_is_longer_than_the_file(tmp_path, length):
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k"
    (tmp_path / "f.gguf").write_bytes(head + struct.pack("<IIQQ", 9, 8, 3, length) + bytes(24))
    with pytest.raises(InputError, match=r"is not a complete GGUF file \("):
        GGUFFile(tmp_path / "f.gguf")


@pytest.mark.filterwarnings("error")
def test_a_damaged_norm_is_refused_without_a_warning(tmp_path):
    """A signalling NaN, which numpy warns of when the offset is taken off."""
    model = gguf_models.config("gemma3")
    weights = gguf_models.tensors(model)
    path = hub_files.write_gguf(tmp_path / "f.gguf", model, {}, weights)
    stored = (weights["model.layers.0.input_layernorm.weight"] + np.float32(1)).tobytes()
    data = path.read_bytes()
    assert data.count(stored) == 1
    path.write_bytes(data.replace(stored, b"\x00\x00\xa0\x7f" + stored[4:]))
    assert np.isnan(GGUFFile(path).tensors()["model.layers.0.input_layernorm.weight"].read()[0])
