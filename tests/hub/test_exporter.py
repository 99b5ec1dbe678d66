"""`aloe export`: our parameters back to a Hugging Face folder, byte for byte."""

from __future__ import annotations

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from aloe_jax.errors import InputError
from aloe_jax.hub import exporter, importer, load
from helpers import hub_files


def _all(folder):
    return {name: array for file in folder.glob("*.safetensors") for name, array in load_file(file).items()}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shard_bytes", [10**9, 50_000])
@pytest.mark.parametrize("tied", [False, True])
def test_import_then_export_is_byte_equal(tmp_path, tied, shard_bytes, dtype):
    config = dataclasses.replace(hub_files.TINY, tied=tied)
    name = np.dtype(dtype).name
    source = hub_files.write_tiny(tmp_path / "m", config, dtype, shards=2 if shard_bytes < 10**9 else 1)
    importer.import_model(str(source), tmp_path / "imported")
    found, params = load.load_model(tmp_path / "imported", dtype=name)
    exporter.export_model(params, found, tmp_path / "imported", tmp_path / "exported", max_shard_bytes=shard_bytes)
    stored = _all(tmp_path / "exported")
    expected = hub_files.tiny_tensors(config, dtype)
    assert stored.keys() == expected.keys()
    for tensor, array in expected.items():
        assert stored[tensor].tobytes() == array.tobytes(), tensor
    assert (tmp_path / "exported" / "model.safetensors.index.json").exists() == (shard_bytes < 10**9)
    first, second = (json.loads((tmp_path / where / "config.json").read_text()) for where in ("imported", "exported"))
    assert first == second


def test_smollm2_round_trip(smollm2, tmp_path):
    """The real model through our parameters: every tensor and the config unchanged."""
    config, params = load.load_model(smollm2)
    exporter.export_model(params, config, smollm2, tmp_path / "out")
    before, after = _all(smollm2), _all(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert np.array_equal(array, after[name]), name
    assert (tmp_path / "out" / "config.json").read_text() == (smollm2 / "config.json").read_text()
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (smollm2 / "tokenizer.json").read_bytes()


def test_numpy_parameters_and_dtype(tmp_path):
    """Parameters from a checkpoint may be numpy arrays."""
    folder = hub_files.write_tiny(tmp_path / "m")
    config, params = load.load_model(folder)
    exporter.export_model(jax.tree.map(np.asarray, params), config, folder, tmp_path / "out", dtype="bfloat16")
    expected = hub_files.tiny_tensors(config)["model.layers.0.mlp.down_proj.weight"].astype(ml_dtypes.bfloat16)
    stored = _all(tmp_path / "out")["model.layers.0.mlp.down_proj.weight"]
    assert stored.tobytes() == expected.tobytes()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_out_with_content_and_wrong_tokenizer_folder(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    config, params = load.load_model(folder)
    with pytest.raises(InputError, match="is not empty"):
        exporter.export_model(params, config, folder, folder)
    with pytest.raises(InputError, match=r"tokenizer.json is missing"):
        exporter.export_model(params, config, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
