"""Killed, stopped, out of disk: the same command finishes, loses nothing and repeats nothing."""

import json
import signal

import pytest

from aloe_jax.run.stage import MANIFEST
from helpers.aloe_command import (
    CALLS_A_TURN,
    STAGES,
    TURNS,
    copy_stages,
    has_lines,
    lines,
    run_arguments,
    sampled,
    says,
)
from helpers.held_file import held
from helpers.run_files import assert_equal_files, assert_equal_runs, steps
from helpers.same_trees import assert_same_trees

pytestmark = pytest.mark.slow
TREES, CALLS = "conversations/trees.jsonl", "conversations/calls.jsonl"


def status(workdir, stage):
    return json.loads((workdir / stage / MANIFEST).read_text())["status"]


def tear(path):
    """Append an incomplete line, as a kill in the middle of an append does."""
    with open(path, "a") as file:
        file.write(path.read_text().splitlines()[0][:40])


def test_a_run_that_is_killed_in_every_stage_ends_like_one_that_is_not(aloe_process, tiny_model, finished, tmp_path):
    """One command, killed eleven times with SIGKILL, within every stage and between some; then it finishes with the
    same files as the uninterrupted run. Pipes in place of files block it where a stage would end too soon."""
    workdir = tmp_path / "run"
    arguments = run_arguments(tiny_model, workdir)

    def kill(reached, stage=None):
        code, errors = aloe_process.stopped(arguments, reached)
        assert code == -signal.SIGKILL
        assert stage is None or status(workdir, stage) == "running", f"not killed within the stage '{stage}'"
        return errors

    with held(workdir / "personas/.personas.jsonl.partial"):
        kill(says("personas: started"), "personas")

    kill(has_lines(workdir / TREES, 2), "conversations")
    accepted, answered = lines(workdir / TREES), lines(workdir / CALLS)
    tear(workdir / TREES)
    tear(workdir / CALLS)
    with held(workdir / f"dataset/.{MANIFEST}.partial"):
        errors = kill(says("conversations: done"))
    trees = lines(workdir / TREES)
    assert set(accepted) <= set(trees)
    assert sampled(errors) == len(trees) * TURNS * CALLS_A_TURN - len(answered)
    assert lines(workdir / CALLS)[: len(answered)] == answered

    kill(says("dataset: started"), "dataset")
    half_written = workdir / "dataset/aloe_trees/1.0.0.incompleteABC123"
    half_written.mkdir(parents=True)
    (half_written / "aloe_trees-train.array_record-00000-of-00001").write_bytes(b"half")

    kill(has_lines(workdir / "sft/metrics.jsonl", 3), "sft")
    tear(workdir / "sft/metrics.jsonl")

    with held(workdir / "preference/.metrics.jsonl.partial"):
        kill(says("reference batches"), "preference")
    kill(has_lines(workdir / "preference/metrics.jsonl", 3), "preference")
    tear(workdir / "preference/metrics.jsonl")

    with held(workdir / "benchmark/sft/.scores.jsonl.partial"):
        kill(has_lines(workdir / "benchmark/sft/trees.jsonl", 1), "benchmark")
    tear(workdir / "benchmark/sft/trees.jsonl")
    with held(workdir / f"export/.{MANIFEST}.partial"):
        kill(says("benchmark: done"))
    with held(workdir / "benchmark/base/metrics.json"):
        kill(says("export: started"), "export")
    with held(workdir / "report/.index.html.partial"):
        kill(says("report: started"), "report")

    result = aloe_process.call(arguments)
    assert result.returncode == 0, result.stderr
    assert [status(workdir, stage) for stage in STAGES] == ["finished"] * len(STAGES)
    assert_equal_runs(workdir, finished.workdir)
    for stage in ("sft", "preference"):
        assert [record["step"] for record in steps(workdir, stage)] == list(range(1, len(steps(workdir, stage)) + 1))
    assert not list(workdir.rglob("*.partial"))


def test_two_trainings_from_the_same_trees_are_equal_but_for_time(aloe_process, tiny_model, finished, tmp_path):
    workdir = copy_stages(finished.workdir, tmp_path / "again", "personas", "conversations")
    result = aloe_process.call(run_arguments(tiny_model, workdir, "--stages=dataset,sft,preference"))
    assert result.returncode == 0, result.stderr
    for stage in ("sft", "preference"):
        assert steps(workdir, stage) == steps(finished.workdir, stage)
    times = [(folder / "sft/metrics.jsonl").read_text() for folder in (workdir, finished.workdir)]
    assert times[0] != times[1]  # else it is not another training


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_with_75_and_one_sentence(aloe_process, tiny_model, finished, tmp_path, number):
    """As with Ctrl-C and preemption; in the middle of sampling, whose engine runs on other threads."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", "personas")
    arguments = run_arguments(tiny_model, workdir, "--stages=conversations")
    with held(workdir / "conversations/.trees.jsonl.partial"):
        code, errors = aloe_process.stopped(arguments, has_lines(workdir / TREES, 1), number)
    assert code == 75, errors
    assert errors.splitlines()[-1] == "aloe: stopped; the same command continues where it was"
    assert "Traceback" not in errors
    assert status(workdir, "conversations") == "running"
    answered = lines(workdir / CALLS)
    result = aloe_process.call(arguments)
    assert result.returncode == 0, result.stderr
    assert sampled(result.stderr) == 6 * TURNS * CALLS_A_TURN - len(answered)
    assert_same_trees(workdir / TREES, finished.workdir / TREES)


@pytest.mark.parametrize("stage", ["conversations", "dataset", "sft", "export"])
def test_a_full_disk_stops_with_75_and_the_same_command_finishes(aloe_process, tiny_model, finished, tmp_path, stage):
    """A limit on file sizes stands for a full disk: the system refuses the write in the same way. Our own files,
    ArrayRecord, tensorstore and safetensors run into it."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", *STAGES[: STAGES.index(stage)])
    trees = lines(finished.workdir / TREES)
    room = {
        "conversations": len("".join(lines(finished.workdir / CALLS)[:9]).encode()) + 50,  # the tenth line does not fit
        "dataset": 4_000,
        "sft": 200_000,
        "export": 200_000,
    }[stage]
    arguments = run_arguments(tiny_model, workdir, f"--stages={stage}")
    result = aloe_process.call(arguments, largest_file=room)
    assert result.returncode == 75, result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"aloe: cannot write '{workdir}/")
    assert result.stderr.count("aloe: ") == 1
    assert "Traceback" not in result.stderr
    if stage == "conversations":
        assert lines(workdir / TREES) == trees[:2]
        assert len(lines(workdir / CALLS)) == 9

    result = aloe_process.call(arguments)
    assert result.returncode == 0, result.stderr
    assert status(workdir, stage) == "finished"
    assert_equal_files(workdir, finished.workdir, stage)
