"""`aloe run` as two processes with a device each, which share a run directory."""

import contextlib
import json
import re
import time

import pytest

from helpers.aloe_command import DEADLINE, LOOK_EVERY, STAGES, copy_stages, free_port, has_lines, run_arguments, says

pytestmark = pytest.mark.slow
TIME_OUT = 60  # seconds within which a process detects the loss of the other one, about five are needed


@pytest.fixture
def both(aloe_process, tiny_model, tmp_path):
    """Starts the two processes, which are killed at the end if still running."""
    with contextlib.ExitStack() as stack:

        def start(workdir, *more):
            port, started = free_port(), []
            for number in range(2):
                extra = more[number] if more else ()
                place = f"--distributed=localhost:{port},2,{number}"
                arguments = run_arguments(tiny_model, workdir, "--stages=sft,preference,export", place, *extra)
                errors = tmp_path / f"stderr-{number}"
                process = aloe_process.started(arguments, errors)
                stack.callback(process.wait)
                stack.callback(process.kill)
                started.append((process, errors))
            return started

        yield start


def losses(workdir, stage):
    return [json.loads(line)["loss"] for line in (workdir / stage / "metrics.jsonl").read_text().splitlines()]


def wait_for(reached, process, errors):
    deadline = time.monotonic() + DEADLINE
    while not reached(errors):
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() < deadline, errors.read_text()
        time.sleep(LOOK_EVERY)


def test_one_stops_or_dies_and_the_same_command_goes_on(finished, both, tmp_path):
    """SIGTERM to the second process while the training starts: both stop before a step or after the same one. SIGTERM
    during the steps, with a checkpoint at each: both save after the same step. SIGKILL, with checkpoints by the clock:
    the first process exits without waiting, the one before the last checkpoint is complete. The result equals that of
    one process up to rounding, which grows with the steps."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", *STAGES[:3])
    metrics = workdir / "sft/metrics.jsonl"
    often = ("--config.sft.checkpoint_every=1",)
    (first, errors), (second, others) = both(workdir, often, often)
    wait_for(says("sft: mesh"), first, errors)
    second.terminate()
    assert (first.wait(TIME_OUT), second.wait(TIME_OUT)) == (75, 75), errors.read_text() + others.read_text()
    for output in (errors, others):
        assert re.search(r"aloe: stopped (before|after) step \d+ of 12", output.read_text().splitlines()[-1])

    done = len(losses(workdir, "sft"))
    (first, errors), (second, others) = both(workdir, often, often)
    wait_for(has_lines(metrics, done + 2), first, errors)
    second.terminate()
    assert (first.wait(TIME_OUT), second.wait(TIME_OUT)) == (75, 75), errors.read_text() + others.read_text()
    done = len(losses(workdir, "sft"))
    for output in (errors, others):
        assert f"aloe: stopped after step {done} of 12" in output.read_text().splitlines()[-1]
    assert (workdir / f"sft/checkpoints/{done}").is_dir()

    by_clock = ("--config.sft.checkpoint_every=100", "--config.sft.checkpoint_minutes=0.0001")
    (first, errors), (second, _) = both(workdir, by_clock, by_clock)
    wait_for(has_lines(metrics, done + 3), first, errors)
    second.kill()
    assert first.wait(TIME_OUT) == 75, errors.read_text()
    assert max(int(path.name) for path in (workdir / "sft/checkpoints").iterdir() if path.name.isdigit()) > done
    assert "another process of this run went away" in errors.read_text().splitlines()[-1]

    for process, errors in both(workdir, often, often):
        assert process.wait(DEADLINE) == 0, errors.read_text()
    assert not errors.read_text()  # of the second process
    for stage in ("sft", "preference"):
        assert losses(workdir, stage) == pytest.approx(losses(finished.workdir, stage), abs=1e-4)
    manifest = json.loads((workdir / "preference/manifest.json").read_text())
    assert (manifest["status"], manifest["counts"]["mesh"]) == ("finished", "replica 1 x fsdp 2 x tensor 1")


def test_they_have_to_agree(finished, both, tmp_path):
    """With another batch in one of them, the processes would wait for each other."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", *STAGES[:3])
    for process, errors in both(workdir, (), ("--config.sft.batch=2",)):
        assert process.wait(DEADLINE) == 2, errors.read_text()
        assert "process 1 differs from process 0 in the config, the stages or the packages" in errors.read_text()


def test_what_the_first_one_refuses_ends_the_other(finished, both, tmp_path):
    """The dataset, which only the primary process checks for, is missing."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", *STAGES[:2])
    (first, errors), (second, others) = both(workdir)
    assert first.wait(DEADLINE) == 2, errors.read_text()
    assert "stage 'sft' needs 'dataset', which is not finished" in errors.read_text()
    assert second.wait(TIME_OUT) == 2, others.read_text()
    assert "process 0 refused its input (stage 'sft' needs 'dataset', which is not finished" in others.read_text()
