"""How benchmarks/online_methods.py takes the exit status of the commands that it runs."""

import json
from argparse import Namespace
from dataclasses import asdict
from subprocess import CompletedProcess

import pytest

from benchmarks import online_methods
from data_gen.online.round_settings import AlarmSettings

QUIET = {"step": 1, "words": 20.0, "entropy": 0.7}


def train(tmp_path, monkeypatch, code, records, words=200.0):
    """The commands of a training whose run ends with this status, after rounds with these lines."""
    places = {"run": tmp_path / "shared", "out": tmp_path / "out", "config": "c.py"}
    options = Namespace(**places, methods="turn", seeds=1, rounds=2, budget=0, trees=0, more=[])
    called = []

    def call(arguments):
        called.append(arguments[1:])
        if arguments[1] != "run":
            return CompletedProcess(arguments, 0)
        online = tmp_path / "out/turn-0/online"
        online.mkdir(parents=True)
        (online / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
        alarm = asdict(AlarmSettings(words=words))
        (online.parent / "config.json").write_text(json.dumps({"seed": 0, "online": {"alarm": alarm}}))
        return CompletedProcess(arguments, code)

    monkeypatch.setattr(online_methods.subprocess, "run", call)
    comparison = online_methods.Comparison(options)
    try:
        comparison.train(comparison.trained[0])
    except SystemExit as stopped:
        return called, stopped.code
    return called, 0


def test_a_run_that_an_alarm_ends_is_exported_as_it_is(tmp_path, monkeypatch):
    called, code = train(tmp_path, monkeypatch, 75, [QUIET, {**QUIET, "step": 2, "words": 300.0}])
    assert (called[1][0], called[1][-1], code) == ("export", "--unfinished", 0)


@pytest.mark.parametrize("records", [[], [QUIET], [{**QUIET, "words": 300.0}]])
def test_a_run_that_stops_for_another_reason_ends_the_benchmark(tmp_path, monkeypatch, records):
    """A signal or a server: the same command goes on. Alarms count as the run has them, off in one of these."""
    called, code = train(tmp_path, monkeypatch, 75, records, words=0.0)
    assert ([each[0] for each in called], code) == (["run"], 75)


def test_a_run_that_finishes_is_exported(tmp_path, monkeypatch):
    called, code = train(tmp_path, monkeypatch, 0, [QUIET])
    assert "--unfinished" not in called[1]
    assert code == 0


def test_a_measurement_that_stops_ends_the_benchmark(monkeypatch):
    monkeypatch.setattr(online_methods.subprocess, "run", lambda arguments: CompletedProcess(arguments, 75))
    with pytest.raises(SystemExit) as stopped:
        online_methods.aloe("run")
    assert stopped.value.code == 75
