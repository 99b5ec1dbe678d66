"""Parameters: layout, types, and slices read straight to a sharding."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aloe_jax.errors import InputError
from aloe_jax.hub import byte_ranges, families, load
from aloe_jax.models import decoder
from helpers import hub_files
from helpers.aloe_command import HELPERS, free_port


@pytest.mark.parametrize("tied", [False, True])
def test_layout_is_the_decoders(tmp_path, tied):
    config = dataclasses.replace(hub_files.TINY, tied=tied)
    found, params = load.load_model(hub_files.write_tiny(tmp_path / "m", config))
    assert found == config
    expected = decoder.abstract_params(config)
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), expected
    )


def test_values_by_hand(tmp_path):
    """query[l, d, h, k] is q_proj[h * K + k, d]; output[l, h, k, d] is o_proj[d, h * K + k]; K = 16."""
    _, params = load.load_model(hub_files.write_tiny(tmp_path / "m"))
    stored = hub_files.tiny_tensors(hub_files.TINY)
    layers = params["layers"]
    assert layers["query"][1, 5, 2, 3] == stored["model.layers.1.self_attn.q_proj.weight"][35, 5]
    assert layers["output"][0, 3, 1, 7] == stored["model.layers.0.self_attn.o_proj.weight"][7, 49]
    assert layers["down"][1, 90, 4] == stored["model.layers.1.mlp.down_proj.weight"][4, 90]
    assert params["head"][9, 80] == stored["lm_head.weight"][80, 9]
    assert params["embed"][80, 9] == stored["model.embed_tokens.weight"][80, 9]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_types(tmp_path, dtype):
    _, params = load.load_model(hub_files.write_tiny(tmp_path / "m", dtype=ml_dtypes.bfloat16), dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    norm = hub_files.tiny_tensors(hub_files.TINY, ml_dtypes.bfloat16)["model.norm.weight"]
    np.testing.assert_array_equal(np.asarray(params["final_norm"], np.float32), norm.astype(np.float32))


def test_params_do_not_depend_on_the_files_afterwards(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    _, params = load.load_model(folder)
    before = np.array(params["embed"])
    (folder / "model.safetensors").write_bytes(bytes((folder / "model.safetensors").stat().st_size))
    np.testing.assert_array_equal(params["embed"], before)


def test_broken_folders(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    with pytest.raises(InputError, match=r"architecture GPT2LMHeadModel; supported are .*LlamaForCausalLM"):
        load.load_model(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object, found list"):
        load.load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="does not exist"):
        load.load_model(folder)


def test_small_pieces(tmp_path, monkeypatch):
    """For any size of pieces, converted on the devices or on the host."""
    monkeypatch.setattr(load, "PIECE_BYTES", 1000)
    bfloat16 = ml_dtypes.bfloat16
    for stored, dtype in (
        (bfloat16, "float32"),
        (bfloat16, "bfloat16"),
        (np.float16, "float32"),
        (np.float32, "float16"),
    ):
        folder = hub_files.write_tiny(tmp_path / f"{np.dtype(stored)}-{dtype}", dtype=stored)
        before = byte_ranges.bytes_read()
        config, params = load.load_model(folder, dtype=dtype)
        assert byte_ranges.bytes_read() - before == hub_files.weights_size(folder)
        expected = hub_files.tiny_tensors(config, stored)
        for weight in families.weights(config):
            whole = [weight.to_param(expected[name]).astype(dtype) for name in families.tensor_names(weight, config)]
            leaf = functools.reduce(lambda place, part: place[part], weight.path, params)
            whole = np.stack(whole) if weight.path[0] == "layers" else whole[0]
            assert np.asarray(leaf).tobytes() == whole.tobytes(), weight.name


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16])
def test_every_number_is_exact(tmp_path, stored):
    """All 65,536 bit patterns of a two-byte type except infinities and NaNs, which are refused; denormal ones too: kept
    bit by bit, and every number the same in f32."""
    config = dataclasses.replace(hub_files.TINY, vocab=1024)
    folder = hub_files.write_tiny(tmp_path / "m", config, stored)
    patterns = np.arange(1 << 16, dtype=np.uint16).reshape(1024, 64).view(stored)
    patterns = np.where(np.isfinite(patterns.astype(np.float32)), patterns, stored(1))
    tensors = load_file(folder / "model.safetensors") | {"model.embed_tokens.weight": patterns}
    save_file(tensors, folder / "model.safetensors")
    name = np.dtype(stored).name
    assert np.asarray(load.load_model(folder, dtype=name)[1]["embed"]).tobytes() == patterns.tobytes()
    np.testing.assert_array_equal(load.load_model(folder)[1]["embed"], patterns.astype(np.float32))


def test_two_processes_read_half_each(tmp_path):
    """Two processes, fsdp=2: each reads the headers, the norms and half of every other tensor, to the byte."""
    folder = hub_files.write_tiny(tmp_path / "m", dtype=ml_dtypes.bfloat16)
    script = HELPERS / "one_of_two_processes.py"
    command = [sys.executable, script, folder, str(free_port())]
    started = [
        subprocess.Popen([*command, number, "float32"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in ("0", "1")
    ]
    results = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], results
    tensors = load_file(folder / "model.safetensors")
    norms = sum(array.nbytes for name, array in tensors.items() if "norm" in name)
    halves = sum(array.nbytes for name, array in tensors.items() if "norm" not in name) // 2
    header = hub_files.weights_size(folder) - norms - 2 * halves
    assert [int(out) for out, _ in results] == [header + norms + halves] * 2


def test_eight_devices(tmp_path):
    """In a process of its own, because the number of devices is fixed at start."""
    folder = hub_files.write_tiny(tmp_path / "m", shards=2)
    script = HELPERS / "sharded_round_trip.py"
    command = [sys.executable, script, folder, tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": HELPERS.parent}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    expected = hub_files.tiny_tensors(hub_files.TINY)
    exported = load_file(tmp_path / "out" / "model.safetensors")
    assert exported.keys() == expected.keys()
    for name, array in expected.items():
        assert exported[name].tobytes() == array.tobytes(), name
