"""`gs://` and hub ids through their real clients, against servers on this machine, with the real command."""

from __future__ import annotations

import ml_dtypes
import pytest
from safetensors.numpy import load_file

from helpers import fake_servers, hub_files
from helpers.aloe_command import Aloe


@pytest.fixture
def aloe_process(tmp_path, monkeypatch):
    """The command, with caches of its own and no token."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    command = Aloe(tmp_path)
    command.environment |= {"HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path), "NO_GCE_CHECK": "true"}
    command.environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return command


def _refused(result, *parts):
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("aloe: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def test_folder_in_a_store(tmp_path, aloe_process):
    """Imported and exported; weights are read by range, and the import requests every byte of them once."""
    folder = hub_files.write_tiny(tmp_path / "buckets" / "b" / "models" / "m", dtype=ml_dtypes.bfloat16, shards=2)
    with fake_servers.cloud_storage(tmp_path / "buckets") as store:
        aloe_process.environment["STORAGE_EMULATOR_HOST"] = store.url
        imported = aloe_process.call(["import", "gs://b/models/m", "--out=imported"])
        assert (imported.returncode, imported.stdout) == (0, "imported\n"), imported.stderr
        asked = sum(size for name, size in store.ranges if name.endswith(".safetensors"))
        assert asked == hub_files.weights_size(folder)
        exported = aloe_process.call(["export", "gs://b/models/m/", "--out=exported"])
        assert exported.returncode == 0, exported.stderr
    expected = hub_files.tiny_tensors(hub_files.TINY, ml_dtypes.bfloat16)
    for out in ("imported", "exported"):
        found = load_file(tmp_path / out / "model.safetensors")
        assert {name: array.tobytes() for name, array in found.items()} == {
            name: array.tobytes() for name, array in expected.items()
        }
        assert (tmp_path / out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


@pytest.mark.slow
def test_stores_that_cannot_be_read(tmp_path, aloe_process):
    folder = hub_files.write_tiny(tmp_path / "buckets" / "b" / "m", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with fake_servers.cloud_storage(tmp_path / "buckets") as store:
        aloe_process.environment["STORAGE_EMULATOR_HOST"] = store.url
        for source, sentence in (
            ("gs://no-bucket/m", "'gs://no-bucket/m/config.json' cannot be read (it does not exist)"),
            ("gs://forbidden/m", "'gs://forbidden/m/config.json' cannot be read"),
            ("gs://b/m", "gs://b/m/model-00002-of-00002.safetensors is missing"),
        ):
            _refused(aloe_process.call(["import", source, "--out=out"]), sentence)
    assert not (tmp_path / "out").exists()


def test_hub_id(tmp_path, aloe_process):
    """Downloaded once: the second time the files are read from the hub's cache, without the server."""
    hub_files.write_tiny(tmp_path / "models" / "owner" / "name", shards=2)
    with fake_servers.model_hub(tmp_path / "models") as hub:
        aloe_process.environment["HF_ENDPOINT"] = hub.url
        assert aloe_process.call(["import", "owner/name", "--out=first"]).returncode == 0
    aloe_process.environment["HF_HUB_OFFLINE"] = "1"
    assert aloe_process.call(["import", "owner/name", "--out=second"]).returncode == 0
    first, second = (tmp_path / out / "model.safetensors" for out in ("first", "second"))
    expected = {name: array.tobytes() for name, array in hub_files.tiny_tensors(hub_files.TINY).items()}
    assert {name: array.tobytes() for name, array in load_file(first).items()} == expected
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_hub_ids_that_are_refused(tmp_path, aloe_process):
    pickled = tmp_path / "models" / "owner" / "pickled"
    pickled.mkdir(parents=True)
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with fake_servers.model_hub(tmp_path / "models") as hub:
        aloe_process.environment["HF_ENDPOINT"] = hub.url
        for source, sentence in (
            ("owner/none", "hub model 'owner/none' does not exist, or is private"),
            ("gated/name", "hub model 'gated/name' is gated; accept its licence"),
            ("owner/pickled", "hub model 'owner/pickled': pytorch_model.bin is a pickle, which can run code"),
        ):
            _refused(aloe_process.call(["import", source, "--out=out"]), sentence)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "hf").rglob("*.bin"))
