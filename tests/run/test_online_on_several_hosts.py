"""Rounds as two processes with a device each, on loopback: those of one process with two devices, to the bit."""

import signal
import time

import pytest

from helpers.aloe_command import DEADLINE, LOOK_EVERY, ROOT, free_port
from helpers.fake_server import MODEL, FakeServer, running
from helpers.run_files import rounds, steps

pytestmark = pytest.mark.slow
EXPORTED = "export/model.safetensors"
ENDED = 120  # seconds within which both have stopped; a few are needed
TWO_DEVICES = "--xla_force_host_platform_device_count=2"


def arguments(model, workdir, server, *more):
    """Two rounds of four trees in two batches; the users are behind a server."""
    online = {
        "start": "base", "reference": "base", "rounds": 2, "trees": 4, "max_tokens": 4, "learning_rate": 1e-3,
        "warmup": 0.0, "objective": "policy_gradient", "rows": 2, "rollout.turns": 2, "rollout.batch": 2,
        "rollout.siblings": 2, "rollout.share": 0.5, "alarm.flat": 0, "alarm.repetition": 0,
    }  # fmt: skip
    settings = {
        "model.source": model, "seed": 2, "serve.slots": 6, "serve.context": 512, "personas.profiles": 4,
        "personas.personalities": 4, "dataset.max_path": 512, "dataset.row.tokens": 512, "dataset.row.targets": 256,
        "roles.user.player": "model", "roles.user.base_url": server, "roles.user.model": MODEL, "export.model": "online",
        **{f"online.{name}": value for name, value in online.items()},
    }  # fmt: skip
    config = f"--config={ROOT / 'configs/demo.py'}:debug"
    given = [f"--config.{name}={value}" for name, value in settings.items()]
    return ["run", config, f"--workdir={workdir}", "--stages=personas,online,export", *given, *more]


def start(aloe, folder, given):
    """The command as both processes; each with the file of its stderr."""
    port, started = free_port(), []
    for number in range(2):
        errors = folder / f"stderr-{number}"
        process = aloe.started([*given, f"--distributed=localhost:{port},2,{number}"], errors)
        started.append((process, errors))
    return started


def test_rounds_are_those_of_one_process(aloe_process, tiny_model, tmp_path):
    """SIGTERM to the second process stops both at one place, and the same command goes on. The server is asked as often
    as by one process that nothing happens to."""
    alone, workdir = tmp_path / "alone", tmp_path / "run"
    with running(server := FakeServer()) as url:
        result = aloe_process.call(arguments(tiny_model, alone, url), flags=TWO_DEVICES)
        assert result.returncode == 0, result.stderr
        asked = +server.asked
        given, first_round = arguments(tiny_model, workdir, url), workdir / "online/rounds/0001/trees.jsonl"
        (first, errors), (second, others) = both = start(aloe_process, tmp_path, given)
        try:
            deadline = time.monotonic() + DEADLINE
            while not first_round.exists():
                assert first.poll() is None, errors.read_text() + others.read_text()
                assert time.monotonic() < deadline, errors.read_text()
                time.sleep(LOOK_EVERY)
            second.send_signal(signal.SIGTERM)
            assert [process.wait(ENDED) for process, _ in both] == [75, 75], errors.read_text() + others.read_text()
        finally:
            for process, _ in both:
                process.kill()
                process.wait()
        for output in (errors, others):
            assert "aloe: stopped" in output.read_text().splitlines()[-1], output.read_text()
        for process, errors in start(aloe_process, tmp_path, given):
            assert process.wait(DEADLINE) == 0, errors.read_text()
        assert not errors.read_text()  # of the second process
    asked_again = server.asked - asked
    assert asked_again.pop("") > asked.pop("")  # probes, which have no seed, at each start
    assert asked_again == asked
    assert rounds(workdir) == rounds(alone)
    assert steps(workdir, "online") == steps(alone, "online")
    assert (workdir / EXPORTED).read_bytes() == (alone / EXPORTED).read_bytes()
