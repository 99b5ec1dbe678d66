"""Who works in a run directory, and what `aloe status` says about it."""

import io
import json
import os
import subprocess
import sys
import time

import pytest
from etils import epath
from rich.console import Console

from aloe_jax.cli.status import show_status
from aloe_jax.errors import InputError
from aloe_jax.run.lock import LOCK, exclusive, holder
from aloe_jax.run.manifest import Manifest
from aloe_jax.run.progress_file import PROGRESS, write_progress
from aloe_jax.run.progress_row import Row

STAGES = ("dataset", "sft", "preference")
ROW = Row("sft", 90.0, done=10, total=59, unit="steps", figures=("loss 0.6931",), rates=("12 a minute",), left=245.0)


@pytest.fixture
def run(tmp_path):
    """A run in the middle of its second stage, with two checkpoints."""
    workdir = tmp_path / "runs/first"
    for name, status, seconds in (("dataset", "finished", 4.0), ("sft", "running", 30.0)):
        (workdir / name).mkdir(parents=True)
        Manifest(name, status, seconds=seconds).write(epath.Path(workdir / name))
    (workdir / "config.json").write_text('{"seed": 1}')
    write_progress(epath.Path(workdir / PROGRESS), ROW, 90.0)
    for step in (8, 10):
        (workdir / f"sft/checkpoints/{step}").mkdir(parents=True)
    return workdir


def told(*places):
    display = io.StringIO()
    show_status([str(place) for place in places], STAGES, Console(file=display, width=200))
    return display.getvalue()


def test_the_file_of_the_lock_names_its_holder_while_it_works(tmp_path):
    assert holder(tmp_path) is None
    with exclusive(epath.Path(tmp_path)) as sign:
        assert holder(tmp_path) is None
        sign()
        found = holder(tmp_path)
        assert (found.process, found.alive, found.here) == (os.getpid(), True, True)
        assert abs(found.since - time.time()) < 60
        with (
            pytest.raises(InputError, match=rf"another `aloe run` works in .* \(process {os.getpid()}; `aloe status`"),
            exclusive(epath.Path(tmp_path)),
        ):
            pass
    assert holder(tmp_path) is None


def test_a_killed_holder_is_not_alive_nor_is_a_process_that_got_its_number(tmp_path):
    """A process writes its lock and is killed. Its number with another time of birth is another process."""
    code = "import sys; from etils import epath; from aloe_jax.run.lock import exclusive\n"
    code += "with exclusive(epath.Path(sys.argv[1])) as sign: sign(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        found = holder(tmp_path)
        assert (found.process, found.alive) == (process.pid, True)
        process.kill()
    assert holder(tmp_path) == found
    assert found.alive is False
    later = found.model_copy(update={"process": os.getpid()})
    assert later.alive is False
    assert later.model_copy(update={"host": "elsewhere"}).alive is None
    for damaged in ("", "7", "{}", json.dumps({**found.model_dump(), "since": 1e300})):
        (tmp_path / LOCK).write_text(damaged)
        assert holder(tmp_path) is None


def test_a_run_that_works(run):
    with exclusive(epath.Path(run)) as sign:
        sign()
        lines = told(run).splitlines()
    assert lines[0].startswith(f"{run}: running, process {os.getpid()}, since ")
    assert [line.split() for line in lines[1:3]] == [
        ["dataset", "finished", "4", "s"],
        ["sft", "working", "2", "min", "00", "s"],
    ]
    assert lines[3].startswith("  sft: 10/59 steps, loss 0.6931, 12 a minute, 4 min 05 s left (as of ")
    assert lines[4].startswith("  last checkpoint: step 10, of ")


def test_the_goodput_of_a_training(run):
    """Two minutes, of which steps took 90 seconds."""
    (run / "sft/starts.jsonl").write_text('{"time": 100.0, "last": null, "redone": 0.0}\n')
    record = {"step": 10, "time": 220.0, "seconds": 120.0, "step_seconds": 90.0, "start_seconds": 30.0}
    (run / "sft/metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert "  sft: goodput 75% of 2 min 00 s in 1 call (start 25%) " in told(run)


def test_a_run_that_was_stopped_or_killed_has_no_time_left(run):
    lines = told(run).splitlines()
    assert lines[0] == f"{run}: stopped in sft; the same command continues"
    assert lines[2].split() == ["sft", "interrupted", "30", "s"]
    assert "sft: 10/59 steps, loss 0.6931, 12 a minute (as of " in lines[3]
    killed = {"process": os.getpid(), "host": os.uname().nodename, "born": "1", "since": 0.0}
    (run / LOCK).write_text(json.dumps(killed))
    assert f": killed (process {os.getpid()}) in sft; the same command continues" in told(run)


def test_a_run_on_another_host_is_told_by_its_last_sign(run):
    (run / LOCK).write_text(json.dumps({"process": 7, "host": "tpu-0", "born": "1", "since": 0.0}))
    first = told(run).splitlines()[0]
    assert ": running, process 7 on tpu-0, since " in first
    assert "last sign" in first
    assert "may have ended" not in first
    progress = json.loads((run / PROGRESS).read_text())
    (run / PROGRESS).write_text(json.dumps({**progress, "time": time.time() - 600}))
    assert "last sign 10 min 00 s ago; it may have ended there" in told(run).splitlines()[0]


def test_what_is_done_without_a_count_is_told_of_a_run_that_works(run):
    row = Row("sft", 42.0, doing="compiling the step", hint="the first time takes about a minute")
    write_progress(epath.Path(run / PROGRESS), row, 42.0)
    assert "compiling" not in told(run)
    with exclusive(epath.Path(run)) as sign:
        sign()
        assert "  sft: compiling the step for 42 s (as of " in told(run)


def test_several_runs_and_a_folder_of_runs(run, tmp_path):
    second = tmp_path / "runs/second"
    (second / "sft").mkdir(parents=True)
    (second / "config.json").write_text('{"seed": 2}')
    Manifest("sft", "finished").write(epath.Path(second / "sft"))
    (tmp_path / "runs/model").mkdir()
    (tmp_path / "runs/model/config.json").write_text('{"architectures": []}')
    both = told(run, second)
    assert told(tmp_path / "runs") == both
    assert [line for line in both.splitlines() if not line.startswith(" ")] == [
        f"{run}: stopped in sft; the same command continues",
        f"{second}: not running; finished up to sft",
    ]
    with pytest.raises(InputError, match=r"model' is no run directory of `aloe run` and has none in it"):
        told(run, tmp_path / "runs/model")
