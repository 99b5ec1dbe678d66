"""`aloe metrics` of run directories and of several files: a table, or JSON by result."""

import json

import pytest

from aloe_jax import files
from helpers.aloe_in_process import refused
from helpers.synthetic_run import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "one"), write_run(folder / "two", steps=20)


def stored(run, name):
    return files.read_json(run / "benchmark" / name / "metrics.json")


def test_one_file_is_answered_as_ever(aloe, runs):
    """The content of its metrics.json, with --json too."""
    path = runs[0] / "benchmark/sft/scores.jsonl"
    for more in ((), ("--json",)):
        code, out, _ = aloe("metrics", path, *more)
        assert code == 0
        assert json.loads(out) == stored(runs[0], "sft")


def test_a_run_and_several_files_as_json(aloe, runs):
    one, two = runs
    _, out, _ = aloe("metrics", one, "--json")
    names = ["base", "sft", "preference", "oracle", "preference+wrong_persona"]
    assert json.loads(out) == {name: stored(one, name) for name in names}
    _, out, _ = aloe("metrics", one / "benchmark/sft", two, "--json", "--scale=persona")
    found = json.loads(out)
    assert list(found) == ["one/sft", *(f"two/{name}" for name in names)]
    assert found["one/sft"] == stored(one, "sft")["persona"]
    paths = [run / "benchmark/sft/scores.jsonl" for run in runs]
    _, out, _ = aloe("metrics", *paths, "--json")
    assert json.loads(out) == {str(path): stored(run, "sft") for path, run in zip(paths, runs, strict=True)}


def test_a_table_fits_60_columns(aloe, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = aloe("metrics", runs[0])
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 60
    found = stored(runs[0], "preference")
    low, high = found["ci"]["average"]
    assert f"preference, 6 cases {found['average']:.2f}" in " ".join(out.split())
    assert f"[{low:.2f}, {high:.2f}]" in out
    levels = " ".join(f"{level:.2f}" for level in found["AL"])
    assert f"preference {levels}" in [" ".join(line.split()) for line in lines]
    assert sum("scale `" in line for line in lines) == 2
    assert "scale `shown`" not in aloe("metrics", runs[0], "--scale=persona")[1]


def test_what_has_no_metrics(aloe, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(aloe("metrics", runs[0], tmp_path / "empty"), "empty' has no benchmark results with scores")
    refused(aloe("metrics", runs[0], tmp_path / "none"), "none' does not exist")
    refused(aloe("metrics", runs[0], "--label-sheet=3"), "one file of scores")
    refused(aloe("metrics", runs[0], "--labels=labels.jsonl"), "one file of scores")
