"""Shards with a damaged file: `aloe merge` refuses them in one sentence, and the merged run does not begin."""

import json
import os
import shutil

import pytest

from aloe_jax.cli import main as cli
from helpers.aloe_command import ROOT
from helpers.aloe_in_process import refused
from helpers.bucket_servers import BUCKET, storage_emulator
from helpers.fake_server import MODEL, FakeServer, running

SIZES = (
    "--config.conversations.trees=2",
    "--config.conversations.mix.plain=1",
    "--config.roles.responder.max_tokens=32",
    f"--config.serve.model={MODEL}",
)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Two finished shards of a run."""
    folder = tmp_path_factory.mktemp("grown")
    with running(FakeServer()) as url:
        for number in range(2):
            call = ("run", f"--config={ROOT / 'configs/demo.py'}:debug", f"--workdir={folder / str(number)}", *SIZES)
            stages = ("--stages=personas,conversations", f"--shard={number}/2", f"--config.serve.base_url={url}")
            assert cli.main([*call, *stages]) == 0
    return folder


def rewrite(path, change):
    path.write_text(change(path.read_text()))


def another_seed(text):
    return json.dumps(json.loads(text) | {"config": {"seed": 1}})


DAMAGES = [
    ("personas/personas.jsonl", str.upper, "personas.jsonl is not as its stage wrote"),
    ("personas/benchmark.jsonl", lambda text: "", "benchmark.jsonl is not as its stage wrote"),
    ("personas/manifest.json", another_seed, "these are not the personas that the conversations were grown from"),
    ("personas/manifest.json", lambda text: text[:-9], "broken JSON"),
    ("conversations/calls.jsonl", lambda text: text.replace('"answers"', '"answer"'), "line 1: damaged"),
    ("conversations/calls.jsonl", lambda text: text.replace('{"id":"', '{ "id":"'), "line 1: damaged"),
    ("conversations/nodes.jsonl", lambda text: text[:-9], "damaged"),
    ("conversations/nodes.jsonl", lambda text: text.replace('"text"', '"key":"x","text"', 1), "line 1: damaged"),
    ("conversations/judge.json", lambda text: "[]", "expected a JSON object"),
    ("conversations/judge.json", lambda text: '{"pairs": "many"}', "pairs"),
    ("config.json", lambda text: "[]", "expected a JSON object"),
]


@pytest.mark.parametrize(("name", "change", "found"), DAMAGES)
def test_a_damaged_file_is_refused(name, change, found, aloe, grown, tmp_path):
    shutil.copytree(grown, tmp_path / "shards")
    rewrite(tmp_path / "shards/0" / name, change)
    out = tmp_path / "out"
    refused(aloe("merge", *(tmp_path / f"shards/{number}" for number in range(2)), f"--out={out}"), found)
    assert not out.exists()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(aloe, grown, tmp_path):
    shutil.copytree(grown, tmp_path / "shards")
    path = tmp_path / "shards/1/conversations/rejects.jsonl"
    path.unlink()
    os.mkfifo(path)
    found = aloe("merge", *(tmp_path / f"shards/{number}" for number in range(2)), f"--out={tmp_path / 'out'}")
    refused(found, "rejects.jsonl is not an ordinary file")


def test_undamaged_shards_are_merged(aloe, grown, tmp_path):
    code, out, _ = aloe("merge", grown / "1", grown / "0", f"--out={tmp_path / 'out'}")
    assert (code, out.startswith("2 conversations")) == (0, True)


def test_shards_are_merged_into_a_bucket(aloe, grown, tmp_path, monkeypatch):
    """The merged run goes on there: its stages are finished. A place with a run in it is refused."""
    with storage_emulator() as environment:
        for name, value in (environment | {"ALOE_CACHE": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)
        url, shards = f"gs://{BUCKET}/runs/merged", [str(grown / "0"), str(grown / "1")]
        code, stdout, stderr = aloe("merge", *shards, f"--out={url}")
        assert code == 0, stderr
        assert stdout.split()[:2] == ["2", "conversations,"]
        shutil.rmtree(tmp_path / "cache")  # as on another machine
        given = ("run", f"--config={ROOT / 'configs/demo.py'}:debug", f"--workdir={url}", *SIZES, "--dry-run")
        given = (*given, "--config.serve.base_url=http://localhost:9/v1")
        code, stdout, stderr = aloe(*given, "--stages=personas,conversations")
        assert code == 0, stderr
        assert stdout.count("finished before, unchanged") == 2
        code, _, stderr = aloe("merge", *shards, f"--out={url}")
        assert (code, stderr.splitlines()[-1]) == (2, f"aloe: --out: '{url}' is not empty; give another place")
