"""GGUF tensors and metadata: exact for plain types, within a step for quantised ones, one sentence for broken files."""

from __future__ import annotations

import dataclasses

import gguf
import numpy as np
import pytest

import hub_files
from aloe_jax.errors import InputError
from aloe_jax.hub import families, tensors
from aloe_jax.hub.gguf_convert import convert_gguf
from aloe_jax.hub.gguf_file import GGUFFile

KIND = gguf.GGMLQuantizationType


def _read(file):
    return {name: tensor.read() for name, tensor in GGUFFile(file).tensors().items()}


@pytest.mark.parametrize("tied", [False, True])
def test_f32_is_exact_and_rows_are_put_back(tmp_path, tied):
    config = dataclasses.replace(hub_files.TINY, tied=tied)
    file = hub_files.write_gguf(tmp_path / "f.gguf", config, {})
    expected = hub_files.tiny_tensors(config)
    found = _read(file)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert families.model_config(GGUFFile(file).hf_config(), "f.gguf") == config


@pytest.mark.parametrize(("kind", "dtype"), [(KIND.F16, "float16"), (KIND.BF16, "bfloat16")])
def test_half_precision_keeps_its_type(tmp_path, kind, dtype):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {"ffn_up": kind})
    tensor = GGUFFile(file).tensors()["model.layers.1.mlp.up_proj.weight"]
    original = hub_files.tiny_tensors(hub_files.TINY)["model.layers.1.mlp.up_proj.weight"]
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor.read().astype(dtype), original.astype(dtype))


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


def test_constants_lose_their_f32_noise(tmp_path):
    config = GGUFFile(hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {})).hf_config()
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-5, 10_000.0)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"general.architecture": "qwen2"}, "general.architecture is 'qwen2'; only 'llama'"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is yarn"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8; only 16"),
        ({"llama.expert_count": 8}, "llama.expert_count is 8"),
        ({"llama.attention.key_length": 0}, "key_length' is 0; expected a positive integer"),
        ({"llama.attention.key_length": [16, 8]}, r"key_length' is \[16, 8\]; expected a positive integer"),
    ],
)
def test_unsupported_models_are_refused(tmp_path, metadata, sentence):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **metadata)
    with pytest.raises(InputError, match=sentence):
        GGUFFile(file).hf_config()


def test_missing_metadata_is_named(tmp_path):
    file = hub_files.write_vocabulary(tmp_path / "v.gguf", "smollm", merges=10)
    with pytest.raises(InputError, match=r"v.gguf: metadata key 'llama.embedding_length' is missing"):
        GGUFFile(file).hf_config()


def test_unknown_tensor_is_named(tmp_path):
    """Llama 3.1 files hold rotary factors, which the config cannot state."""
    file = GGUFFile(hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}))
    found = file.tensors() | {"rope_freqs.weight": tensors.Tensor((8,), np.dtype(np.float32), lambda: np.ones(8))}
    with pytest.raises(InputError, match=r"tensor 'rope_freqs.weight' does not belong"):
        tensors.checked(found, hub_files.TINY, "f.gguf")


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
