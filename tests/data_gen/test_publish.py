"""`aloe convert` of a run whose files are not what they should be."""

import json
import shutil

import pytest
from huggingface_hub import DatasetCard

from helpers import synthetic_run
from helpers.aloe_in_process import aloe_in_process, refused


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with made-up figures."""
    return synthetic_run.write_run(tmp_path_factory.mktemp("publish") / "run")


POOL = {"origins": {"seed": 1}, "entries": 2, "nearest": {}, "rejects": {}, "threshold": 0.5, "stopped": "rounds"}
REPORT = {"profiles": POOL, "personalities": POOL, "contamination": {}}
WRONG = [
    *(("config.json", content, "expected a JSON object") for content in ("", [], None, 0)),
    *(("personas/pool.json", content, "expected a JSON object") for content in ("", [])),
    ("personas/pool.json", {}, "it does not describe the pools of a run (field 'profiles' is missing)"),
    ("personas/pool.json", REPORT | {"personalities": POOL | {"threshold": "low"}}, "does not describe the pools"),
    ("personas/pool.json", REPORT | {"profiles": POOL | {"rejects": []}}, "does not describe the pools"),
    ("personas/pool.json", REPORT | {"contamination": {"profiles": {}}}, "field 'cosine' is missing"),
]


def publish(aloe, finished, folder, name, content):
    run = shutil.copytree(finished, folder / "run")
    wanted(run, 12)
    shutil.copy(run / "personas/personas.jsonl", run / "personas/benchmark.jsonl")
    (run / name).write_text(json.dumps(content))
    return aloe("convert", run, f"--out={folder / 'out'}")


@pytest.mark.parametrize(("name", "content", "sentence"), WRONG)
def test_a_file_of_other_content_is_refused(name, content, sentence, finished, tmp_path, capsys):
    with aloe_in_process(capsys) as aloe:
        refused(publish(aloe, finished, tmp_path, name, content), name, sentence)
    assert not (tmp_path / "out").exists()


def test_the_report_of_the_pools_is_in_the_card(finished, tmp_path, capsys):
    with aloe_in_process(capsys) as aloe:
        assert publish(aloe, finished, tmp_path, "personas/pool.json", REPORT)[0] == 0
    assert "- personalities: 2 (1 by hand)" in (tmp_path / "out/README.md").read_text()


def card_of(folder):
    """The metadata of the card in a folder as the hub's library reads it, and its text."""
    card = DatasetCard.load(folder / "README.md")
    return card.data.to_dict(), card.text


def wanted(run, number):
    """State in the manifest how many conversations were to be grown; none if they were taken from a file."""
    path = run / "conversations/manifest.json"
    manifest = json.loads(path.read_text())
    counts = manifest["counts"] | ({} if number is None else {"wanted": number})
    path.write_text(json.dumps(manifest | {"counts": counts}))


def test_grown_conversations_are_called_synthetic(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "grown")
    wanted(run, 12)
    with aloe_in_process(capsys) as aloe:
        assert publish(aloe, run, tmp_path, "personas/pool.json", REPORT)[0] == 0
    metadata, text = card_of(tmp_path / "out")
    assert metadata["tags"] == ["preference-alignment", "aloe", "synthetic"]
    assert metadata["size_categories"] == ["n<1K"]
    assert [each["config_name"] for each in metadata["configs"]] == ["conversations", "personas", "benchmark_personas"]
    assert "a simulated user" in text


def test_own_conversations_are_not_called_simulated(finished, tmp_path, capsys):
    """No persona, judge or player of the run made them, and the run need not have any."""
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "personas")
    with aloe_in_process(capsys) as aloe:
        assert aloe("convert", run, f"--out={tmp_path / 'out'}")[0] == 0
    metadata, text = card_of(tmp_path / "out")
    assert metadata["tags"] == ["preference-alignment", "aloe"]
    assert metadata["configs"] == [{"config_name": "conversations", "data_files": "data/train.parquet"}]
    assert [path.name for path in sorted((tmp_path / "out").rglob("*.parquet"))] == ["train.parquet"]
    for word in ("simulated", "Who played", "persona", "programs"):
        assert word not in text
    assert "which did not make them" in text
