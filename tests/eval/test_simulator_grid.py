"""The table of simulators, trained with by tested with: which results stand where, and differences by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from aloe_jax import files
from eval.benchmark.metrics import metrics
from eval.benchmark.scores import ScoreRecord
from eval.compare.comparison import compare
from eval.compare.page import render
from eval.compare.sources import read_sources
from eval.report.reading import ModelResult, read_results
from eval.report.simulators import simulator, simulator_grids, trials
from helpers.aloe_in_process import refused
from helpers.synthetic_run import write_benchmark, write_run


def config(name="A", **models):
    return {
        "roles": {"user": {"player": "scripted", "simulator": name}},
        "benchmark": {"models": ["base", "sft", *(f"{key}={value}" for key, value in models.items())]},
    }


def result(*scores):
    """Two profiles and two personalities, one turn."""
    records = [
        ScoreRecord(case=f"p{k // 2}-q{k % 2}", profile=f"p{k // 2}", personality=f"q{k % 2}", turn=1, score=score)
        for k, score in enumerate(scores)
    ]
    return ModelResult(tuple(records), metrics(records, resamples=20))


def cells(grid):
    return [(row.label, row.note, [cell.value for cell in row.cells]) for row in grid.rows]


def test_a_model_by_both_simulators():
    """SFT has 4 on average with its own simulator and 3 with the other: 1 less in every case. The start model was
    trained with none, so nothing is compared."""
    results = {
        "base": result(1, 2, 1, 2),
        "base+other_simulator": result(1, 1, 1, 1),
        "sft": result(3, 4, 4, 5),
        "sft+other_simulator": result(2, 3, 3, 4),
        "sft+no_history": result(1, 1, 1, 1),
    }
    [grid] = simulator_grids(trials(Path("run"), config(), results))
    assert [head for head, _ in grid.heads] == ["tested with A", "tested with B"]
    assert cells(grid) == [("base", "start model", ["1.50", "1.00"]), ("sft", "trained with A", ["4.00", "3.00"])]
    assert grid.rows[1].cells[1].remarks[-1].startswith("−1.00 [−1.00, −1.00] to A")
    assert not any(" to " in remark for cell in grid.rows[0].cells for remark in cell.remarks)
    assert simulator_grids(trials(Path("run"), config(), {"sft": result(3, 4, 4, 5)})) == []


def test_a_model_of_another_run_keeps_the_simulator_that_it_was_trained_with(tmp_path):
    """Run `b` tests run `a`'s model with B, whose own result there was with A: one row."""
    files.write_json(tmp_path / "a/config.json", config("A"))
    source = tmp_path / "a/sft"
    found = trials(tmp_path / "a", config("A"), {"sft": result(4, 4, 5, 5)})
    found += trials(tmp_path / "b", config("B", of_a=source), {"sft": result(2, 2, 2, 2), "of_a": result(3, 3, 4, 4)})
    assert [(each.trained, each.tested) for each in found] == [("A", "A"), ("B", "B"), ("A", "B")]
    [grid] = simulator_grids(found)
    assert cells(grid) == [("sft", "trained with A", ["4.50", "3.50"])]


def test_a_model_that_plays_the_user_is_a_simulator_of_its_own():
    assert simulator({"roles": {"user": {"player": "model", "model": "people"}}}) == "people"
    assert simulator({"roles": {"user": {"player": "scripted"}}}) == "A"  # of a run before there were two
    assert simulator({}) == "A"
    assert trials(Path("run"), {**config(), "benchmark": {"mode": "replay"}}, {"sft": result(1, 1, 1, 1)}) == []


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, of which the second was trained and tested with B; both measured SFT with the other simulator."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for number, name in enumerate("AB"):
        run = write_run(folder / f"run{name}")
        for control in ("oracle", "preference+wrong_persona"):
            shutil.rmtree(run / "benchmark" / control)
        files.write_json(run / "config.json", files.read_object(run / "config.json") | config(name))
        write_benchmark(run / "benchmark/sft+other_simulator", 0.1, 2, np.random.default_rng(number), 2, 2, 3)
        found.append(run)
    return found


def test_comparison_and_its_page_show_the_table(runs):
    found = compare(read_sources([str(run) for run in runs]))
    assert found.cases == 6  # the fewer cases of the control restrict nothing else
    grids = simulator_grids(found.trials)
    for grid in grids:
        assert [row.label for row in grid.rows if row.note] == ["runA/sft", "runB/sft"]
        assert [row.note for row in grid.rows if row.note] == ["trained with A", "trained with B"]
    page = render(found)
    assert "Simulators of the user: average AL by training and test (shown)" in page
    assert "tested with B" in page


def test_the_report_of_a_run_shows_its_own(runs):
    results = read_results(files.existing(runs[1]) / "benchmark")
    for grid in simulator_grids(trials(runs[1], config("B"), results)):
        assert [(row.label, row.note) for row in grid.rows] == [("sft", "trained with B")]


def test_the_control_needs_a_scripted_user_that_answers(aloe, tmp_path):
    def run(*more):
        return aloe("run", "--config=demo:debug", f"--workdir={tmp_path / 'run'}", "--stages=personas,benchmark",
                    "--config.benchmark.controls=('base+other_simulator',)", "--config.benchmark.models=('base',)",
                    *more)  # fmt: skip

    refused(run("--config.roles.user.player=model"), "config.benchmark.controls: other_simulator is about scripted")
    refused(run("--config.benchmark.mode=replay"), "in replay there is no user, so other_simulator has no effect")
