"""`aloe push` through the hub's real client, against a server on this machine."""

import json

import huggingface_hub
import pytest

from helpers import hub_files
from helpers.aloe_command import Aloe
from helpers.aloe_in_process import aloe_in_process, refused
from helpers.hub_uploads import upload_hub

TOKEN = "hf_secretOfTheTest0123456789"
CARD = "---\nlicense: apache-2.0\nlibrary_name: transformers\n---\n# A model\n"
DATA_CARD = "---\nconfigs:\n- config_name: trees\n  data_files: data/train.parquet\n---\n# A dataset\n"
BESIDE = (".lock", "manifest.json", ".cache/token", "notes.txt", "checkpoints/1/part")  # what is no part of a folder


@pytest.fixture
def hub():
    with upload_hub(TOKEN) as server:
        yield server


@pytest.fixture
def aloe(hub, capsys, monkeypatch):
    """The command in this process, whose client calls the hub and has its token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with aloe_in_process(capsys) as call:
        yield call


def beside(folder):
    for name in BESIDE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("private")


@pytest.fixture
def model(tmp_path):
    folder = hub_files.write_tiny(tmp_path / "model", shards=2)
    (folder / "README.md").write_text(CARD)
    beside(folder)
    return folder


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "data/train.parquet").write_bytes(b"PAR1 trees")
    (folder / "data/other.parquet").write_bytes(b"PAR1 not named")
    (folder / "README.md").write_text(DATA_CARD)
    beside(folder)
    return folder


def test_a_model_by_its_command(hub, model, tmp_path):
    """In a process of its own, which finds the hub by HF_ENDPOINT; a second call sends no large file again."""
    process = Aloe(tmp_path)
    process.environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}
    process.environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    result = process.call(["push", "model", "--repo=me/mine", "--message=First"])
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == f"{hub.url}/me/mine/commit/{'1' * 40}"
    there = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file() and path.name not in BESIDE}
    assert hub.repositories == {("model", "me/mine"): there}
    assert {"config.json", "tokenizer.json", "chat_template.jinja", "model-00001-of-00002.safetensors"} <= there.keys()
    assert hub.private == {("model", "me/mine"): True}
    assert hub.messages == ["First"]
    assert TOKEN not in result.stdout


def test_a_dataset_public_and_not_sent_twice(hub, aloe, dataset):
    for count in (1, 2):
        code, out, err = aloe("push", dataset, "--repo=me/data", "--public")
        assert (code, err) == (0, ""), err
        assert [method for method, _ in hub.requests].count("PUT") == 1, count
    assert hub.repositories == {
        ("dataset", "me/data"): {"README.md": DATA_CARD.encode(), "data/train.parquet": b"PAR1 trees"}
    }
    assert hub.private == {("dataset", "me/data"): False}
    assert "left out, as no part of the dataset: .cache/token, .lock, " in out


def test_a_dry_run_needs_neither_network_nor_token(hub, aloe, model, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    code, out, err = aloe("push", model, "--dry-run")
    assert (code, err, hub.requests) == (0, "", [])
    sizes = dict(reversed(line.split("  ")) for line in map(str.strip, out.splitlines()[:-1]))
    assert sizes["README.md"] == f"{len(CARD)} B"
    assert all(name not in sizes for name in BESIDE)
    assert "manifest.json" in out.splitlines()[-1]


def test_what_is_refused_before_anything_is_sent(hub, aloe, model, dataset, monkeypatch, tmp_path):
    refused(aloe("push", tmp_path / "none", "--dry-run"), "is no folder")
    call = ("--repo=me/mine",)
    for folder, name, content, sentence in (
        (model, "README.md", "no block", "has no metadata"),
        (model, "README.md", "---\nlicense: {a: b\n---\n", "its metadata cannot be read"),
        (model, "README.md", CARD.replace("---\n#", "base_model: /home/base\n---\n#"), "base_model is '/home/base'"),
        (dataset, "README.md", DATA_CARD.replace("data/train", "../model/config"), "a file inside the folder"),
        (dataset, "README.md", DATA_CARD.replace("data/train.parquet", "data/.hidden"), "not hidden"),
        (dataset, "README.md", DATA_CARD.replace("train", "absent"), "absent.parquet' is missing"),
        (dataset, "README.md", CARD, "its card names no data files"),
        (model, "model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}', "inside the folder"),
    ):  # fmt: skip
        before = (folder / name).read_text()
        (folder / name).write_text(content)
        refused(aloe("push", folder, *call), sentence)
        (folder / name).write_text(before)
    (dataset / "data/train.parquet").unlink()
    (dataset / "data/train.parquet").symlink_to(model / "config.json")
    refused(aloe("push", dataset, *call), "train.parquet' is a link")
    code, _, err = aloe("push", model)
    assert (code, "--repo is missing" in err) == (2, True)
    code, _, err = aloe("push", model, "--repo=mine")
    assert (code, "expected owner/name" in err) == (2, True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    code, _, err = aloe("push", model, *call)
    assert (code, err.count("\n"), "there is no token for the hub; run `hf auth login`" in err) == (2, 1, True)
    assert hub.requests == []


def test_adapters_whose_base_model_nobody_else_has(hub, aloe, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    config = {"base_model_name_or_path": "/home/me/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    refused(aloe("push", folder, "--dry-run"), "base_model_name_or_path is '/home/me/base'", "set it to a hub id")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
    assert aloe("push", folder, "--repo=me/adapter")[0] == 0
    assert len(hub.repositories["model", "me/adapter"]) == 3


def test_what_the_hub_refuses_is_one_sentence_without_the_token(hub, aloe, model, monkeypatch):
    def failed(*arguments):
        code, _, err = aloe("push", model, *arguments)
        assert err.startswith("aloe: ")
        assert err.count("\n") == 1, err
        assert TOKEN not in err
        return code, err

    code, said = failed("--repo=other/mine")
    assert (code, "the hub refuses 'other/mine' (" in said, "may write" in said) == (2, True, True)
    (model / "README.md").write_text(CARD.replace("apache-2.0", "unknown-licence"))
    code, said = failed("--repo=me/mine")
    assert (code, 'metadata in README.md. - "license" must be one of' in said) == (2, True)
    (model / "README.md").write_text(CARD)
    hub.token = "another one"
    assert failed("--repo=me/mine")[0] == 2
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    code, said = failed("--repo=me/mine")
    assert (code, "was not uploaded" in said, "the same command goes on" in said) == (75, True, True)
