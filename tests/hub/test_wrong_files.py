"""Folders that hold something else than a model's own files say what it is, wherever it is read."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats.convert import convert
from aloe_jax.hub import importer, load
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.source import resolve_model
from helpers import hub_files

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 269060552\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
STAND_INS = {
    "is a Git LFS pointer and not the file itself; run": POINTER,
    "is a web page and not the file itself": PAGE,
}


@pytest.fixture
def folder(tmp_path):
    return hub_files.write_tiny(tmp_path / "m")


def verdict(folder, out):
    """The sentence of `aloe import`, which has to be that of the readers of weights."""
    with pytest.raises(InputError) as imported:
        importer.import_model(str(folder), out)
    with pytest.raises(InputError) as loaded:
        load.load_params(folder, read_chat_model(folder)[0])
    assert str(imported.value) == str(loaded.value)
    assert not out.exists()
    return str(imported.value)


@pytest.mark.parametrize("said", STAND_INS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_what_stands_for_a_file_is_named(folder, tmp_path, name, said):
    (folder / name).write_bytes(STAND_INS[said])
    assert verdict(folder, tmp_path / "out").startswith(f"{folder / name} {said}")


@pytest.mark.parametrize("said", STAND_INS)
@pytest.mark.parametrize("name", ["m.gguf", "trees.jsonl", "train.parquet", "pairs.csv", "chats.json"])
def test_so_it_is_in_single_files(tmp_path, name, said):
    (tmp_path / name).write_bytes(STAND_INS[said])
    read = resolve_model if name.endswith("gguf") else lambda path: convert(path, tmp_path / "out.jsonl")
    with pytest.raises(InputError, match=said):
        read(str(tmp_path / name))


def test_a_text_about_them_is_none(tmp_path):
    text = "A page begins with <html>, a pointer with version https://git-lfs."
    (tmp_path / "about.txt").write_text(text)
    assert files.read_text(tmp_path / "about.txt") == text


def renamed(folder, new):
    stored = load_file(folder / "model.safetensors")
    save_file({new(name): array for name, array in stored.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
def test_names_of_a_wrapped_model(folder, tmp_path, prefix):
    renamed(folder, lambda name: prefix + name)
    found = verdict(folder, tmp_path / "out")
    assert f"'{prefix}model.embed_tokens.weight' is there: a wrapped model" in found


def test_names_of_a_part_of_a_model(folder, tmp_path):
    renamed(folder, lambda name: name.removeprefix("model."))
    assert "'embed_tokens.weight' is there: a wrapped model or a part of one" in verdict(folder, tmp_path / "out")


def test_adapters_that_were_not_merged(folder, tmp_path):
    renamed(folder, lambda name: name.replace("q_proj.weight", "q_proj.base_layer.weight"))
    found = verdict(folder, tmp_path / "out")
    assert "'model.layers.0.self_attn.q_proj.base_layer.weight' is there: adapters were not merged" in found


def test_a_head_that_is_not_stored(folder, tmp_path):
    stored = load_file(folder / "model.safetensors")
    save_file({name: array for name, array in stored.items() if name != "lm_head.weight"}, folder / "model.safetensors")
    assert "set tie_word_embeddings to true in config.json if" in verdict(folder, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert load.load_model(folder)[0].tied


def test_weights_that_were_not_gathered(folder, tmp_path):
    stored = load_file(folder / "model.safetensors")
    save_file({name: np.zeros(0, np.float32) for name in stored}, folder / "model.safetensors")
    assert "is empty (shape [0]): it was saved while the weights lay in parts" in verdict(folder, tmp_path / "out")


def test_shards_without_their_index(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    assert "is there, but model-00001-of-00002.safetensors (shards need" in verdict(folder, tmp_path / "out")


def test_an_entry_of_the_hubs_cache(folder, tmp_path):
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "0a1b"
    snapshot.parent.mkdir(parents=True)
    shutil.move(folder, snapshot)
    with pytest.raises(
        InputError, match=r"is an entry of the hub's cache; name the model's folder in it: .*snapshots/0a1b"
    ):
        importer.import_model(str(tmp_path / "models--owner--name"), tmp_path / "out")
