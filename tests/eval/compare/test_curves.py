"""`aloe compare` of trainings: curves over each other in the terminal, as data and on the page; runs without a
benchmark."""

import csv
import io
import json
import shutil

import pytest
from rich.console import Console

from aloe_jax import files
from eval.compare.comparison import compare
from eval.compare.curves import text_chart
from eval.compare.sources import read_sources
from eval.compare.text import show
from helpers.aloe_in_process import refused
from helpers.html_page import Page
from helpers.synthetic_run import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that trained and have no benchmark; the first one lost a step to NaN."""
    folder = tmp_path_factory.mktemp("trained")
    pair = [write_run(folder / name, steps=steps) for name, steps in (("one", 18), ("two", 12))]
    for run in pair:
        shutil.rmtree(run / "benchmark")
    path = pair[0] / "sft/metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    files.write_lines(path, map(files.json_line, [lines[0], lines[1] | {"loss": None}, *lines[2:]]))
    config = files.read_object(pair[1] / "config.json")
    files.write_json(pair[1] / "config.json", config | {"seed": 7})
    return pair


def recorded(run, stage, key):
    lines = map(json.loads, (run / stage / "metrics.jsonl").read_text().splitlines())
    return [[line["step"], line[key]] for line in lines if line.get(key) is not None]


def test_curves_of_runs_without_a_benchmark(runs):
    found = compare(read_sources([str(run) for run in runs]))
    assert (found.subjects, found.cases, found.contrasts) == ((), 0, ())
    assert found.settings == {"seed": {"one": "0", "two": "7"}}
    assert [(each.stage, each.key) for each in found.curves] == [
        ("sft", "loss"), ("preference", "loss"), ("preference", "accuracy"), ("preference", "reward_margin"),
    ]  # fmt: skip
    for curves in found.curves:
        for run in runs:
            assert list(map(list, curves.runs[run.name])) == recorded(run, curves.stage, curves.key)
    assert len(found.curves[0].runs["one"]) == 17


def test_a_training_of_one_run_alone_has_nothing_over_it(runs, tmp_path):
    alone = shutil.copytree(runs[0], tmp_path / "alone")
    shutil.rmtree(alone / "sft")
    found = compare(read_sources([str(alone), str(runs[1])]))
    assert {each.stage for each in found.curves} == {"preference"}


def test_what_cannot_be_compared(aloe, runs, tmp_path):
    refused(aloe("compare", runs[0]), "expected at least two to compare")
    refused(aloe("compare", runs[0], runs[1], "--baseline=base"), "'base' is unknown; there are no results")
    shutil.copytree(runs[0] / "conversations", tmp_path / "run/conversations")
    refused(aloe("compare", runs[0], tmp_path / "run"), "has no benchmark results and no training")


def test_fits_a_terminal_of_60_columns(runs):
    text = io.StringIO()
    show(compare(read_sources([str(run) for run in runs])), Console(file=text, width=60, highlight=False))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert sum("┤" in line for line in lines) == 18  # two plots of nine lines
    first, last = recorded(runs[1], "sft", "loss")[0][1], recorded(runs[1], "sft", "loss")[-1][1]
    assert f"b two {first:.4g} → {last:.4g} step 1 to 12" in [" ".join(line.split()) for line in lines]


def test_a_plot_by_hand():
    """Two lines that cross in the middle of a plot of five columns and three lines."""
    rising, falling = [(1, 0.0), (2, 0.5), (3, 1.0)], [(1, 1.0), (2, 0.5), (3, 0.0)]
    assert text_chart([rising, falling], width=8, height=3) == [
        "1 ┤b   a",
        "  ┤  *",
        "0 ┤a   b",
        "  └─────",
        "   1step 3",
    ]
    assert text_chart([[(1, 2.0)]], width=8, height=3)[2] == "2 ┤a"  # a single step, a flat curve


def test_page_and_data(aloe, runs, tmp_path):
    out = tmp_path / "out"
    code, said, _ = aloe("compare", *runs, f"--out={out}", "--json")
    assert code == 0
    printed = json.loads(said)
    assert printed == files.read_json(out / "compare.json")
    assert printed["training"][0]["runs"]["two"] == recorded(runs[1], "sft", "loss")
    with open(out / "training.csv") as file:
        rows = [
            row for row in csv.DictReader(file) if (row["stage"], row["figure"], row["run"]) == ("sft", "loss", "two")
        ]
    assert [[int(row["step"]), float(row["value"])] for row in rows] == recorded(runs[1], "sft", "loss")
    page = Page((out / "index.html").read_text())
    assert page.self_contained
    for text in ("one, two", "Training, step by step", "SFT loss, nats per token", "seed 0 7"):
        assert text in page.text
    assert "Paired differences" not in page.text
    assert not list(out.glob("*.png"))
