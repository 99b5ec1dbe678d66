"""Generation and benchmark as two processes with four devices each, on loopback: both decode, and the results are those
of one device but for rounding."""

import re
import time

import pytest

from helpers.aloe_command import DEADLINE, copy_stages, free_port, has_lines, run_arguments
from helpers.same_trees import assert_same_trees

pytestmark = pytest.mark.slow
MESHES = {"conversations": (4, 2), "benchmark": (2, 4)}  # fsdp, tensor
TREES = "conversations/trees.jsonl"
LOST = 30  # seconds within which a process ends after the death of the other one


def start(aloe, model, workdir, tmp_path, stage):
    fsdp, tensor = MESHES[stage]
    port, started = free_port(), []
    mesh = (f"--config.decode.mesh.fsdp={fsdp}", f"--config.decode.mesh.tensor={tensor}", "--config.serve.slots=8")
    together = f"--config.{stage}.concurrency=6"  # enough for the shares of both processes
    for number in range(2):
        place = f"--distributed=localhost:{port},2,{number}"
        arguments = run_arguments(model, workdir, f"--stages={stage}", place, together, *mesh)
        errors = tmp_path / f"stderr-{number}"
        process = aloe.started(arguments, errors, "--xla_force_host_platform_device_count=4")
        started.append((process, errors))
    return started


def tokens_by_process(errors):
    found = re.findall(r"(\d[\d,]*) by process (\d)", errors.read_text())
    return {int(number): int(count.replace(",", "")) for count, number in found}


def test_one_dies_and_the_same_command_generates_equal_trees(aloe_process, finished, tiny_model, tmp_path):
    workdir = copy_stages(finished.workdir, tmp_path / "run", "personas")
    (first, errors), (second, others) = start(aloe_process, tiny_model, workdir, tmp_path, "conversations")
    try:
        deadline = time.monotonic() + DEADLINE
        while not has_lines(workdir / TREES, 1)(errors):
            assert first.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.05)
        second.kill()
        assert first.wait(LOST) == 75, errors.read_text()
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert "process 1 closed its connection" in errors.read_text().splitlines()[-1]

    (first, errors), (second, others) = start(aloe_process, tiny_model, workdir, tmp_path, "conversations")
    assert (first.wait(DEADLINE), second.wait(DEADLINE)) == (0, 0), errors.read_text() + others.read_text()
    decoded = tokens_by_process(errors)
    assert min(decoded[0], decoded[1]) > 0, errors.read_text()
    assert_same_trees(workdir / TREES, finished.workdir / TREES)


def test_the_benchmark_decodes_on_both(aloe_process, finished, tiny_model, tmp_path):
    workdir = copy_stages(
        finished.workdir, tmp_path / "run", "personas", "conversations", "dataset", "sft", "preference"
    )
    (first, errors), (second, others) = start(aloe_process, tiny_model, workdir, tmp_path, "benchmark")
    assert (first.wait(DEADLINE), second.wait(DEADLINE)) == (0, 0), errors.read_text() + others.read_text()
    assert errors.read_text().count("by process 1") == 3  # models
    for model in ("base", "sft", "preference"):
        found, expected = (run / "benchmark" / model / "scores.jsonl" for run in (workdir, finished.workdir))
        assert sorted(found.read_text().splitlines()) == sorted(expected.read_text().splitlines())
