"""Safetensors folders: what is refused, in one sentence each, and how shards are planned."""

from __future__ import annotations

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import hub_files
from aloe_jax.errors import InputError
from aloe_jax.hub import tensors

NORM = "model.norm.weight"
INDEX = "model.safetensors.index.json"


def _check(folder, config=hub_files.TINY):
    return tensors.checked(tensors.read_safetensors(folder), config, str(folder))


def _rewrite(folder, change):
    """Change the tensors of a single-file folder."""
    stored = load_file(folder / "model.safetensors")
    change(stored)
    save_file(stored, folder / "model.safetensors")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shards", [1, 3])
def test_reads_what_was_written(tmp_path, dtype, shards):
    folder = hub_files.write_tiny(tmp_path / "m", dtype=dtype, shards=shards)
    expected = hub_files.tiny_tensors(hub_files.TINY, dtype)
    found = _check(folder)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].read().tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda stored: stored.pop(NORM), "tensor 'model.norm.weight' is missing"),
        (
            lambda stored: stored.update({NORM: np.ones(65, np.float32)}),
            r"has shape \[65\]; config.json asks for \[64\]",
        ),
        (lambda stored: stored.update({NORM: np.ones(64, np.int8)}), "is not floating-point"),
        (lambda stored: stored.update({"model.norm.bias": np.ones(64)}), "'model.norm.bias' does not belong to llama"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, change, sentence):
    folder = hub_files.write_tiny(tmp_path / "m")
    _rewrite(folder, change)
    with pytest.raises(InputError, match=sentence):
        _check(folder)


def test_stored_copies_of_derived_tensors_are_left_out(tmp_path):
    """A tied head and rotary frequencies are computed by the model; old checkpoints store them as well."""
    config = dataclasses.replace(hub_files.TINY, tied=True)
    folder = hub_files.write_tiny(tmp_path / "m", config)
    extra = {"lm_head.weight": np.ones((96, 64)), "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8)}
    _rewrite(folder, lambda stored: stored.update(extra))
    assert not extra.keys() & _check(folder, config).keys()


def test_truncated_file(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    for keep in (0, 5, 100, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"model.safetensors is not a complete safetensors file"):
            tensors.read_safetensors(folder)


def test_pickle_is_refused_with_the_reason(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"pytorch_model.bin is a pickle, which can run code"):
        tensors.read_safetensors(tmp_path)


def test_no_weights_at_all(tmp_path):
    with pytest.raises(InputError, match=r"neither model.safetensors nor model.safetensors.index.json"):
        tensors.read_safetensors(tmp_path)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "a\\b"])
def test_index_pointing_outside_the_folder(tmp_path, name):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {NORM: name}}))
    with pytest.raises(InputError, match="expected a file in the folder itself"):
        tensors.read_safetensors(tmp_path)


def test_broken_index(tmp_path):
    (tmp_path / INDEX).write_text('{"weight_map": ["a"]}')
    with pytest.raises(InputError, match="field weight_map must map"):
        tensors.read_safetensors(tmp_path)


def test_missing_shard_and_tensor_missing_in_its_shard(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m", shards=2)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.extra"] = "model-00001-of-00002.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"tensor 'model.extra' is not in 'model-00001"):
        tensors.read_safetensors(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002.safetensors is missing"):
        tensors.read_safetensors(folder)


def test_shards_stay_below_the_limit(tmp_path):
    """Ten tensors of 400 bytes, limit 1,000: two a file, five files; one larger than the limit stands alone."""
    small = {f"t{n}": tensors.Tensor((100,), np.dtype(np.float32), lambda: np.ones(100)) for n in range(10)}
    tensors.write_safetensors(tmp_path, small, np.dtype(np.float32), max_shard_bytes=1_000)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 4_000}
    assert sorted(set(index["weight_map"].values())) == [f"model-{n:05d}-of-00005.safetensors" for n in range(1, 6)]
    large = {"big": tensors.Tensor((500,), np.dtype(np.float32), lambda: np.ones(500)), "t0": small["t0"]}
    (tmp_path / "large").mkdir()
    tensors.write_safetensors(tmp_path / "large", large, np.dtype(np.float32), max_shard_bytes=1_000)
    assert list(load_file(tmp_path / "large" / "model-00001-of-00002.safetensors")) == ["big"]


def test_unknown_dtype():
    with pytest.raises(InputError, match="dtype is 'int4'; expected one of float32, bfloat16, float16"):
        tensors.as_dtype("int4")
