"""`aloe import`: any source to a Hugging Face folder."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoTokenizer

from aloe_jax.errors import InputError
from aloe_jax.hub import importer
from helpers import hub_files


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("tied", [False, True])
def test_folder_keeps_every_byte(tmp_path, shards, tied):
    config = dataclasses.replace(hub_files.TINY, tied=tied)
    folder = hub_files.write_tiny(tmp_path / "m", config, ml_dtypes.bfloat16, shards)
    (folder / "generation_config.json").write_text('{"eos_token_id": [94, 95]}')
    (folder / "modeling_custom.py").write_text("raise SystemExit('never run')")
    importer.import_model(str(folder), tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    for name, array in hub_files.tiny_tensors(config, ml_dtypes.bfloat16).items():
        assert stored[name].tobytes() == array.tobytes(), name
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (folder / file).read_bytes()
    assert not (tmp_path / "out" / "modeling_custom.py").exists()
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (settings["torch_dtype"], settings["eos_token_id"]) == ("bfloat16", 95)


def test_transformers_opens_the_folder(tmp_path):
    importer.import_model(str(hub_files.write_tiny(tmp_path / "m")), tmp_path / "out")
    assert AutoConfig.from_pretrained(tmp_path / "out").num_key_value_heads == 2
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<|im_end|>"


def test_dtype_is_rounded_to_nearest(tmp_path):
    importer.import_model(str(hub_files.write_tiny(tmp_path / "m")), tmp_path / "out", dtype="bfloat16")
    stored = load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"]
    expected = hub_files.tiny_tensors(hub_files.TINY)["model.norm.weight"].astype(ml_dtypes.bfloat16)
    assert stored.tobytes() == expected.tobytes()


def test_gguf_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    kinds = {"token_embd": gguf.GGMLQuantizationType.Q8_0}
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, kinds)
    importer.import_model(str(file), tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    expected = hub_files.tiny_tensors(hub_files.TINY)
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float32)}
    name = "model.layers.1.self_attn.k_proj.weight"
    assert stored[name].tobytes() == expected[name].tobytes()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("t t<|im_end|>")["input_ids"] == [1, 1, 95]


def test_nothing_is_left_of_a_refused_model(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        importer.import_model(str(folder), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_full_disk(tmp_path):
    """Simulated by a limit on file size, which takes the same path through the library, in a process of its own."""
    folder = hub_files.write_tiny(tmp_path / "m")
    code = (
        "import resource, signal, sys\n"
        "from aloe_jax.errors import ResumableError\n"
        "from aloe_jax.hub import importer\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n    importer.import_model(sys.argv[1], sys.argv[2])\n"
        "except ResumableError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, folder, tmp_path / "out"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "File too large" in result.stdout, result.stderr
    assert "run the same command again" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_out_with_content(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    importer.import_model(str(folder), tmp_path / "out")
    with pytest.raises(InputError, match="is not empty"):
        importer.import_model(str(folder), tmp_path / "out")
    importer.import_model(str(folder), tmp_path / "out", dtype="float16", overwrite=True)
    assert load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"].dtype == np.float16
    with pytest.raises(InputError, match=r"is '.*out', which it would be made from"):
        importer.import_model(str(tmp_path / "out"), tmp_path / "out", overwrite=True)
    assert load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"].dtype == np.float16
