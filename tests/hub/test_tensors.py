"""Safetensors folders: refusals, in one sentence each, and the plan of shards."""

from __future__ import annotations

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aloe_jax.errors import InputError
from aloe_jax.hub import tensors
from helpers import hub_files

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


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "a hole or an overlap at byte 4"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, r"describes \d+ bytes, the file has"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 12]}, r"gives 12 bytes to a tensor F32 \[2\]"),
        ({"dtype": "F32", "shape": [-3], "data_offsets": [0, 12]}, r"a tensor of shape \[-3\]"),
        ({"dtype": "F32", "shape": [3], "data_offsets": ["0", "12"]}, "not a complete safetensors file"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0.0, 12.0]}, "data_offsets that are no whole numbers"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [False, 12]}, "data_offsets that are no whole numbers"),
        ({"dtype": "F32", "shape": 3, "data_offsets": [0, 12]}, "not a complete safetensors file"),
        ({"dtype": "F32", "shape": [3]}, "not a complete safetensors file"),
        (["F32"], "not a complete safetensors file"),
    ],
)
def test_headers_that_do_not_fit_the_file(tmp_path, entry, sentence):
    """The file has 12 bytes of data."""
    text = json.dumps({"t": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    with pytest.raises(InputError, match=sentence):
        tensors.read_safetensors(tmp_path)


def test_the_index_decides_between_two_shards(tmp_path):
    """A tensor in two files is read from the one that the index names; tensors that it does not list are found as
    well."""
    for number in (1, 2):
        save_file({"t": np.full(3, number, np.float32), f"t{number}": np.zeros(1)}, tmp_path / f"{number}.safetensors")
    for number in (1, 2):
        weight_map = {"t": f"{number}.safetensors", "t1": "1.safetensors", "t2": "2.safetensors"}
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        np.testing.assert_array_equal(tensors.read_safetensors(tmp_path)["t"].read(), [number] * 3)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"t": "1.safetensors"}}))
    assert tensors.read_safetensors(tmp_path).keys() == {"t", "t1"}


def test_wide_types_come_first(tmp_path):
    """Every tensor begins at a multiple of its own width, also behind an odd number of half-width ones."""
    kinds = {"a": np.float16, "b": np.float64, "c": np.float32, "d": np.float16, "e": np.float32}
    arrays = {name: np.arange(3, dtype=kind) for name, kind in kinds.items()}
    stored = {name: tensors.Tensor((3,), array.dtype, lambda array=array: array) for name, array in arrays.items()}
    tensors.write_safetensors(tmp_path, stored, None)
    assert list(tensors.read_safetensors(tmp_path)) == ["b", "c", "e", "a", "d"]
    for name, array in load_file(tmp_path / "model.safetensors").items():
        assert array.tobytes() == arrays[name].tobytes()
    assert list(tensors.in_file_order(stored, np.dtype(np.float16))) == list(kinds)


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
    """Ten tensors of 400 bytes, limit 1,000: two per file, five files; one larger than the limit has a file of its
    own."""
    small = {f"t{n}": tensors.Tensor((100,), np.dtype(np.float32), lambda: np.ones(100)) for n in range(10)}
    tensors.write_safetensors(tmp_path, small, np.dtype(np.float32), max_shard_bytes=1_000)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 4_000}
    assert sorted(set(index["weight_map"].values())) == [f"model-{n:05d}-of-00005.safetensors" for n in range(1, 6)]
    large = {"big": tensors.Tensor((500,), np.dtype(np.float32), lambda: np.ones(500)), "t0": small["t0"]}
    (tmp_path / "large").mkdir()
    tensors.write_safetensors(tmp_path / "large", large, np.dtype(np.float32), max_shard_bytes=1_000)
    assert list(load_file(tmp_path / "large" / "model-00001-of-00002.safetensors")) == ["big"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("500MB", 500_000_000), ("2 GiB", 2 << 30), ("7kb", 7000), ("3X", None), ("-1", None)],
)
def test_shard_sizes(text, size):
    if size is None:
        with pytest.raises(InputError, match=f"--max-shard-size is '{text}'; expected a size such as 500MB"):
            tensors.shard_bytes(text)
    else:
        assert tensors.shard_bytes(text) == size


def test_unknown_dtype():
    with pytest.raises(InputError, match="dtype is 'int4'; expected one of float32, bfloat16, float16"):
        tensors.as_dtype("int4")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"__metadata__": 7, "t": ENTRY}', "not a complete safetensors file"),
        ('{"__metadata__": {"format": 7}, "t": ENTRY}', "__metadata__ that are no texts"),
        ('{"__metadata__": {"format": NaN}, "t": ENTRY}', "NaN"),
        ('{"t": ENTRY, "t": ENTRY}', "key 't' stands twice"),
        ('{"t": {"dtype": "F32", "shape": [3, true], "data_offsets": [0, 12]}}', "of shape"),
        ('["t"]', "not a complete safetensors file"),
    ],
)
def test_headers_that_the_format_refuses(tmp_path, text, sentence):
    """The format's own library refuses them too: JSON without NaN and repeated keys, notes that are texts."""
    head = text.replace("ENTRY", '{"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}').encode()
    (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(12))
    with pytest.raises(InputError, match=sentence):
        tensors.read_safetensors(tmp_path)
