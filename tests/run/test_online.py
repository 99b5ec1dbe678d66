"""On-policy rounds on a tiny model: killed and stopped anywhere, the same command ends with the same rounds."""

import itertools
import json
import signal

import pytest

from aloe_jax.train.metrics_log import TIME_FIELDS
from helpers.aloe_command import copy_stages, run_arguments
from helpers.held_file import held

pytestmark = pytest.mark.slow
ROUNDS, TREES = 6, 4


def arguments(model, workdir, *more):
    online = {
        "start": "sft",
        "rounds": ROUNDS,
        "trees": TREES,
        "max_tokens": 8,
        "learning_rate": 1e-3,
        "warmup": 0.0,
        "rollout.turns": 2,
        "rollout.batch": 2,
        "rollout.siblings": 2,
        "rollout.share": 1.0,
        "alarm.flat": 0,
        "alarm.repetition": 0,
        "alarm.truncated": 0,
    }
    given = [f"--config.online.{name}={value}" for name, value in online.items()]
    return run_arguments(model, workdir, "--stages=online", *given, *more)


def records(workdir):
    lines = (workdir / "online/metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIME_FIELDS} for line in lines]


def trees(workdir):
    return {path.parent.name: path.read_bytes() for path in sorted((workdir / "online/rounds").glob("*/trees.jsonl"))}


@pytest.fixture(scope="module")
def uninterrupted(aloe_process, tiny_model, finished, tmp_path_factory):
    workdir = copy_stages(finished.workdir, tmp_path_factory.mktemp("online") / "run", "personas", "dataset", "sft")
    result = aloe_process.call(arguments(tiny_model, workdir))
    assert result.returncode == 0, result.stderr
    return workdir


def test_every_round_starts_from_the_policy_that_sampled_it(uninterrupted):
    """The ratio to the sampling policy is 1 and the loss is the variance of the values; the policy moves."""
    found = records(uninterrupted)
    assert [record["step"] for record in found] == list(range(1, ROUNDS + 1))
    assert all(record["ratio"] == pytest.approx(1, abs=1e-4) for record in found)
    assert all(record["sampler_gap_max"] < 1e-4 for record in found)
    sampled = itertools.accumulate(record["sampled_tokens"] for record in found)
    assert [record["sampled_tokens_so_far"] for record in found] == list(sampled)
    assert found[0]["reference_kl"] == pytest.approx(0, abs=1e-6)
    assert found[-1]["reference_kl"] > 1e-6
    versions = {
        (name, node.get("policy"))
        for name, content in trees(uninterrupted).items()
        for line in content.splitlines()
        for node in json.loads(line)["nodes"]
        if node["role"] == "assistant"
    }
    assert versions == {(f"{number:04d}", number - 1) for number in range(ROUNDS - 4, ROUNDS + 1)}  # five are kept


def test_rounds_that_are_killed_end_like_those_that_are_not(
    aloe_process, tiny_model, finished, uninterrupted, tmp_path
):
    """Killed while the second batch of a round is stored, stopped in the next round, then finished: every batch that
    was stored is kept, and nothing differs from the run that was not disturbed."""
    workdir = copy_stages(finished.workdir, tmp_path / "run", "personas", "dataset", "sft")
    given, rounds = arguments(tiny_model, workdir), workdir / "online/rounds"
    stored = rounds / "0002/batch-00.jsonl"
    with held(rounds / "0002/.batch-01.jsonl.partial"):
        code, _ = aloe_process.stopped(given, lambda errors: stored.exists())
    assert code == -signal.SIGKILL
    kept = stored.read_bytes()
    third = rounds / "0003/trees.jsonl"
    code, errors = aloe_process.stopped(given, lambda errors: third.exists(), signal.SIGTERM)
    assert code == 75, errors
    second = (rounds / "0002/trees.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in second[:2]] == [json.loads(line)["id"] for line in kept.splitlines()]
    result = aloe_process.call(given)
    assert result.returncode == 0, result.stderr
    assert trees(workdir) == trees(uninterrupted)
    assert records(workdir) == records(uninterrupted)


def test_an_alarm_stops_the_rounds_and_the_same_command_goes_on(
    aloe_process, tiny_model, finished, uninterrupted, tmp_path
):
    workdir = copy_stages(finished.workdir, tmp_path / "run", "personas", "dataset", "sft")
    result = aloe_process.call(arguments(tiny_model, workdir, "--config.online.alarm.words=0.5"))
    assert result.returncode == 75
    assert "config.online.alarm.words=0.5: replies grow long" in result.stderr
    result = aloe_process.call(arguments(tiny_model, workdir, "--config.online.alarm.words=0"))
    assert result.returncode == 0, result.stderr
    assert records(workdir) == records(uninterrupted)
