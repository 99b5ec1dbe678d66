"""`aloe import` and `aloe export` as a user calls them: what they refuse, and that they keep every byte."""

from __future__ import annotations

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from helpers import hub_files
from helpers.aloe_command import Aloe

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"


def _tensors(folder, **changes):
    """Change tensors of the single file, or remove them with None; `a__b` means the name `a.b`."""
    stored = load_file(folder / WEIGHTS)
    for name, array in changes.items():
        stored[name.replace("__", ".")] = array
    save_file({name: array for name, array in stored.items() if array is not None}, folder / WEIGHTS)


def _cut(folder, keep):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:keep])


def _pickle(folder):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _index(folder, shard):
    (folder / INDEX).write_text(json.dumps({"weight_map": {NORM: shard}}))


def _config(folder, **changes):
    settings = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(settings))


BROKEN = {
    "missing tensor": (lambda folder: _tensors(folder, model__norm__weight=None), f"tensor '{NORM}' is missing"),
    "extra tensor": (lambda folder: _tensors(folder, extra=np.ones(3)), "tensor 'extra' does not belong to llama"),
    "misshapen tensor": (
        lambda folder: _tensors(folder, model__norm__weight=np.ones(65, np.float32)),
        f"tensor '{NORM}' has shape [65]; config.json asks for [64]",
    ),
    "integers": (lambda folder: _tensors(folder, model__norm__weight=np.ones(64, np.int8)), "is not floating-point"),
    "truncated": (lambda folder: _cut(folder, -1), f"{WEIGHTS} is not a complete safetensors file (its header"),
    "cut in the header": (lambda folder: _cut(folder, 100), "not a complete safetensors file (its header is cut off"),
    "empty": (lambda folder: _cut(folder, 0), "is not a complete safetensors file (it has 0 bytes)"),
    "other format": (
        lambda folder: (folder / WEIGHTS).write_text("format=tar\n"),
        "is not a complete safetensors file",
    ),
    "architecture": (
        lambda folder: _config(folder, architectures=["GPT2LMHeadModel"]),
        "config.json names architecture GPT2LMHeadModel; supported are ",
    ),
    "pickle": (_pickle, "pytorch_model.bin is a pickle, which can run code when it is opened; convert it to"),
    "index outside": (
        lambda folder: _index(folder, "../secret.safetensors"),
        "weight_map names '../secret.safetensors'; expected a file in the folder itself",
    ),
    "index without its shard": (lambda folder: _index(folder, "model-1.safetensors"), "model-1.safetensors is missing"),
    "no chat template": (
        lambda folder: (folder / "chat_template.jinja").unlink(),
        "the tokenizer has no chat template",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json' does not exist"),
    "config in another encoding": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{"), "not UTF-8 text"),
}


@pytest.fixture
def aloe_process(tmp_path):
    return Aloe(tmp_path)


def _refused(result, sentence):
    code, out, said = result
    assert (code, out) == (2, ""), said
    assert said.startswith("aloe: ")
    assert said.count("\n") == 1, said
    assert sentence in said


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders(tmp_path, aloe, name):
    breaking, sentence = BROKEN[name]
    breaking(hub_files.write_tiny(tmp_path / "m"))
    for command in ("import", "export"):
        _refused(aloe(command, tmp_path / "m", f"--out={tmp_path}/new/out"), sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_broken_folder_in_a_process_of_its_own(tmp_path, aloe_process):
    """The exit code and both streams of the command in a shell."""
    breaking, sentence = BROKEN["truncated"]
    breaking(hub_files.write_tiny(tmp_path / "m"))
    for command in ("import", "export"):
        result = aloe_process.call([command, "m", "--out=new/out"])
        _refused((result.returncode, result.stdout, result.stderr), sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("pytorch_model.bin", "--out=out"), "pytorch_model.bin is a pickle, which can run code"),
        (("m", "--out=m"), "is not empty; give a new one, or replace it with --overwrite"),
        (("m", "--out=pytorch_model.bin"), "is a file; give a new folder"),
        (("m", "--out=out", "--dtype=int4"), "dtype is 'int4'; expected one of float32"),
        (("m", "--out=out", "--max-shard-size=some"), "--max-shard-size is 'some'; expected a size such as 500MB"),
        (("m", "--out=out", "--max-shard-size=0"), "--max-shard-size is '0'; expected a size such as 500MB"),
        (("no such model", "--out=out"), "model 'no such model' does not exist; expected a Hugging Face folder"),
    ],
)
def test_arguments(tmp_path, aloe, monkeypatch, arguments, sentence):
    hub_files.write_tiny(tmp_path / "m")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    monkeypatch.chdir(tmp_path)
    for command in ("import", "export"):
        _refused(aloe(command, *arguments), sentence)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "pytorch_model.bin"]


def _stored(folder):
    """dtype and bytes of every tensor, as the safetensors library reads them."""
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as opened:
            assert opened.metadata() == {"format": "pt"}
        for name, array in load_file(file).items():
            found[name] = array.dtype, array.tobytes()
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_folder_of_several_types_keeps_every_byte(tmp_path, aloe_process, aloe, tied):
    """Tensors of three types in three shards, through `import` and `export`, in files of at most 40 kB."""
    config = dataclasses.replace(hub_files.TINY, tied=tied)
    folder = hub_files.write_tiny(tmp_path / "m", config, shards=3)
    types = [np.dtype(kind) for kind in (ml_dtypes.bfloat16, np.float16, np.float32)]
    for file in folder.glob("*.safetensors"):
        arrays = {name: array.astype(types[number % 3]) for number, (name, array) in enumerate(load_file(file).items())}
        save_file(arrays, file, metadata={"format": "pt"})
    before = _stored(folder)
    assert {kind for kind, _ in before.values()} == set(types)
    assert aloe_process.call(["import", "m", "--out=imported", "--max-shard-size=40KB"]).returncode == 0
    assert aloe("export", tmp_path / "imported", f"--out={tmp_path}/exported", "--max-shard-size=40 kb")[0] == 0
    for out in (tmp_path / "imported", tmp_path / "exported"):
        assert _stored(out) == before
        files = sorted(out.glob("*.safetensors"))
        assert len(files) > 3
        assert all(path.stat().st_size < 42_000 for path in files)
        index = json.loads((out / INDEX).read_text())
        assert index["weight_map"].keys() == before.keys()
        assert index["metadata"]["total_size"] == sum(len(data) for _, data in before.values())
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "imported" / name).read_bytes() == (tmp_path / "exported" / name).read_bytes()
