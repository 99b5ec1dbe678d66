"""`aloe convert` of a run whose files are not what they should be."""

import json
import shutil

import pytest

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
