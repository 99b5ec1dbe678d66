"""Model folders that went wrong in silence: each is read as `transformers` reads it, or refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aloe_jax.errors import InputError
from aloe_jax.hub import identity, importer, load, tensors
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.exporter import export_model
from aloe_jax.hub.source import resolve_model
from helpers import hub_files

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
TIED = dataclasses.replace(hub_files.TINY, tied=True)


def rewrite(folder, **changed):
    stored = load_file(folder / "model.safetensors")
    save_file(
        stored | {name.replace("__", "."): array for name, array in changed.items()}, folder / "model.safetensors"
    )


def settings(folder, **changed):
    found = json.loads((folder / "config.json").read_text()) | changed
    (folder / "config.json").write_text(json.dumps(found))


def import_and_score(folder, out):
    """The verdicts of both readers: None, or the sentence."""
    verdicts = []
    for reader in (lambda: importer.import_model(str(folder), out), lambda: _load(folder)):
        try:
            reader()
            verdicts.append(None)
        except InputError as error:
            verdicts.append(str(error))
    return verdicts


def _load(folder):
    model, _ = read_chat_model(folder)
    return load.load_params(folder, model)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_head_that_differs_is_not_tied(tmp_path, dtype):
    """One bit of the last row differs. An equal copy stays tied; the import writes what it read."""
    folder = hub_files.write_tiny(tmp_path / "m", TIED, dtype)
    head = np.array(load_file(folder / "model.safetensors")[EMBEDDING])
    rewrite(folder, **{HEAD: head})
    assert read_config(folder)[0].tied
    assert "head" not in load.load_model(folder)[1]
    head[-1, -1] *= -1
    rewrite(folder, **{HEAD: head})
    model, params = load.load_model(folder)
    assert not model.tied
    assert any(np.array_equal(np.asarray(leaf), head.T.astype(np.float32)) for leaf in jax.tree.leaves(params))
    importer.import_model(str(folder), tmp_path / "out")
    assert np.array_equal(load_file(tmp_path / "out" / "model.safetensors")[HEAD], head)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    export_model(params, model, folder, tmp_path / "exported")
    assert not read_config(tmp_path / "exported")[0].tied


def test_an_index_beside_a_whole_file(tmp_path):
    """An index of the file itself is fine; one of other shards, there or gone, is from another model."""
    folder = hub_files.write_tiny(tmp_path / "m")
    names = list(load_file(folder / "model.safetensors"))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert set(tensors.read_safetensors(folder)) == set(names)
    old = hub_files.write_tiny(tmp_path / "old", shards=2)
    index.write_text((old / index.name).read_text())
    for said in import_and_score(folder, tmp_path / "out"):
        assert "is missing" in said
        assert "remove model.safetensors.index.json if model.safetensors is the whole model" in said
    for shard in old.glob("model-*"):
        (folder / shard.name).write_bytes(shard.read_bytes())
    for said in import_and_score(folder, tmp_path / "out"):
        assert "names other files than model.safetensors, which is there as well; remove" in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_weight_that_is_no_number(tmp_path, value, dtype):
    folder = hub_files.write_tiny(tmp_path / "m", dtype=dtype)
    name = "model.layers.1.mlp.up_proj.weight"
    array = np.array(load_file(folder / "model.safetensors")[name])
    array[3, 5] = value
    rewrite(folder, **{name: array})
    for said in import_and_score(folder, tmp_path / "out"):
        assert f"tensor '{name}' holds NaN or infinity" in said
    assert not (tmp_path / "out").exists()


def test_all_finite_patterns_of_two_bytes_are_finite():
    for dtype in (np.float16, ml_dtypes.bfloat16):
        patterns = np.arange(1 << 16, dtype=np.uint16).view(dtype)
        expected = np.isfinite(patterns.astype(np.float32))
        assert [tensors.is_finite(patterns[n : n + 1]) for n in range(0, 1 << 16, 37)] == expected[::37].tolist()


@pytest.mark.parametrize(
    ("method", "tensor"),
    [
        ({"quant_method": "gptq", "bits": 4}, "qweight"),
        ({"quant_method": "awq"}, "qzeros"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "weight.absmax"),
        (None, "qweight"),
        (None, "weight.SCB"),
        (None, "weight_scale_inv"),
        ("fp8", "weight"),
    ],
)
def test_quantised_folders(tmp_path, method, tensor):
    folder = hub_files.write_tiny(tmp_path / "m")
    rewrite(folder, **{f"model.layers.0.self_attn.q_proj.{tensor}": np.ones((64, 1), np.uint8)})
    settings(folder, quantization_config=method)
    for said in import_and_score(folder, tmp_path / "out"):
        assert "quantised" in said
        assert "use the model that" in said


@pytest.mark.parametrize("whole", [False, True])
def test_adapters(tmp_path, whole):
    folder = hub_files.write_tiny(tmp_path / "m")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "owner/base"}')
    if not whole:
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
        (folder / "config.json").unlink()
    for said in import_and_score(folder, tmp_path / "out"):
        assert "PEFT adapter" in said
        assert "merge_and_unload" in said
        assert ("take adapter_config.json" if whole else "of the model 'owner/base'") in said


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_a_pipe_does_not_hang(tmp_path, name):
    folder = hub_files.write_tiny(tmp_path / "m")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    os.mkfifo(folder / "README.md")
    for said in import_and_score(folder, tmp_path / "out"):
        assert f"{name}' is not an ordinary file" in said or f"{name} is not an ordinary file" in said
    identity.model_hash.cache_clear()
    with pytest.raises(InputError, match="is not an ordinary file"):
        identity.model_hash(resolve_model(str(folder)))


def _without(name):
    return lambda folder: (folder / name).unlink()


def _edit(name, **changed):
    def change(folder):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changed))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _without("tokenizer_config.json"),
        _without("tokenizer.json"),
        _without("chat_template.jinja"),
        _edit("tokenizer_config.json", auto_map={"AutoTokenizer": "code.T"}),
        _edit("tokenizer_config.json", eos_token=None, added_tokens_decoder={}),
        _edit("tokenizer_config.json", eos_token=7),
        _edit("tokenizer_config.json", chat_template={"default": "{% if %}"}),
        _edit("config.json", vocab_size=40),
        _edit("config.json", hidden_act="relu"),
        _edit("config.json", new_multiplier=0.5),
        lambda folder: (folder / "chat_template.jinja").write_text("{% if %}"),
        lambda folder: (folder / "generation_config.json").write_text('{"eos_token_id": 4000}'),
        lambda folder: (folder / "chat_template.jinja").rename(folder / "chat_template.json"),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: None,
    ],
)
def test_one_verdict(tmp_path, change):
    """What `import` takes `score` takes, and the reverse, with one sentence."""
    folder = hub_files.write_tiny(tmp_path / "m")
    change(folder)
    imported, scored = import_and_score(folder, tmp_path / "out")
    assert imported == scored


def test_a_template_in_chat_template_json_is_imported(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    text = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": text}))
    assert import_and_score(folder, tmp_path / "out") == [None, None]
    assert read_chat_model(tmp_path / "out")[1].template.text == text


@pytest.mark.parametrize("name", ["special_tokens_map.json", "chat_template.json", "added_tokens.json"])
def test_identity_covers_every_file_that_is_read(tmp_path, name):
    folder = resolve_model(str(hub_files.write_tiny(tmp_path / "m")))
    found = set()
    for content in (None, "{}", '{"a": 1}'):
        if content is not None:
            (folder / name).write_text(content)
        identity.model_hash.cache_clear()
        found.add(identity.model_hash(folder))
    assert len(found) == 3
