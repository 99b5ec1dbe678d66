"""Rounds as two processes with a device each, on loopback: those of one process with two devices, to the bit."""

import pytest

from helpers.aloe_command import DEADLINE, ROOT, free_port
from helpers.fake_server import MODEL, FakeServer, running
from helpers.run_files import rounds, steps

pytestmark = pytest.mark.slow
TWO_DEVICES = "--xla_force_host_platform_device_count=2"


def arguments(model, workdir, server, *more):
    """Two rounds of two trees in two batches, which distil hints. Users and inducer are behind a server; no judge is
    asked."""
    online = {
        "start": "base", "reference": "base", "objective": "distil", "rounds": 2, "trees": 2, "max_tokens": 4,
        "learning_rate": 1e-3, "warmup": 0.0, "rows": 8, "rollout.turns": 2, "rollout.batch": 1, "rollout.siblings": 2,
        "rollout.futures": 1, "rollout.share": 0.5, "rollout.reward.score": 0.0, "alarm.repetition": 0,
        "alarm.truncated": 0,
    }  # fmt: skip
    settings = {
        "model.source": model, "seed": 2, "serve.slots": 2, "serve.context": 512, "serve.base_url": server,
        "serve.model": MODEL, "roles.user.player": "model", "roles.inducer.player": "model", "personas.profiles": 4,
        "personas.personalities": 4, "dataset.max_path": 512, "dataset.row.tokens": 512, "dataset.row.targets": 256,
        **{f"online.{name}": value for name, value in online.items()},
    }  # fmt: skip
    config = f"--config={ROOT / 'configs/demo.py'}:debug"
    given = [f"--config.{name}={value}" for name, value in settings.items()]
    return ["run", config, f"--workdir={workdir}", "--stages=personas,online", *given, *more]


def test_rounds_are_those_of_one_process(aloe_process, tiny_model, tmp_path):
    """Trees, metrics and what a server is asked. Both processes are told of all trees, the first one alone of users."""
    alone, workdir = tmp_path / "alone", tmp_path / "run"
    with running(server := FakeServer()) as url:
        result = aloe_process.call(arguments(tiny_model, alone, url), flags=TWO_DEVICES)
        assert result.returncode == 0, result.stderr
        asked, port, started = +server.asked, free_port(), []
        for number in range(2):
            place, errors = f"--distributed=localhost:{port},2,{number}", tmp_path / f"stderr-{number}"
            started.append((aloe_process.started(arguments(tiny_model, workdir, url, place), errors), errors))
        try:
            for process, errors in started:
                assert process.wait(DEADLINE) == 0, errors.read_text()
        finally:
            for process, _ in started:
                process.kill()
                process.wait()
    assert not errors.read_text()  # of the second process
    assert server.asked - asked == asked
    assert rounds(workdir) == rounds(alone)
    first, second = found = steps(workdir, "online")
    assert found == steps(alone, "online")
    assert first["ratio"] == pytest.approx(1, abs=1e-4) == second["ratio"]
    assert first["hint_gain"] != 0.0
    assert second["reference_kl"] > first["reference_kl"] == pytest.approx(0, abs=1e-6)
