"""A few hundred cases of every target, the same in each run (`tests/fuzz/run.py` runs others for as long as wanted)."""

import json
import os
import random
import signal
import sys
import threading
import time

import pytest

from fuzz import case, mutators, run
from fuzz.case import Case, Result, judge
from fuzz.targets import TARGETS
from helpers.aloe_command import LOOK_EVERY

SEED = 0
# Cases per target; those that compile a program or run a stage are fewer.
CASES = dict.fromkeys(TARGETS, 24) | {"score": 6, "model": 16, "pools": 6, "resume": 12, "store": 12}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_mutated_input_has_the_right_result_or_one_sentence(name, tmp_path):
    bad = []
    for number in range(CASES[name]):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdict = judge(name, TARGETS[name], SEED, number, folder)
        if verdict.problem is not None:
            repeat = f"python tests/fuzz/run.py --target={name} --seed={SEED} --case={number}"
            bad.append(f"{verdict.outcome} ({verdict.case.mutation}): {verdict.problem}\n{repeat}")
    assert not bad, "\n\n".join(bad)


@pytest.mark.slow
def test_a_run_that_is_ended_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    """SIGTERM after the first case, and again while that is cleaned up: the counts so far, and no folder of the
    cases."""
    folder, ended = tmp_path / "out", threading.Event()

    def end():
        while not list(folder.glob(".running-*/scores-0-*[1-9]*")) and not ended.wait(LOOK_EVERY):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    end_worker = run.Worker.end

    def end_worker_amid_signals(worker):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        end_worker(worker)

    monkeypatch.setattr(run.Worker, "end", end_worker_amid_signals)
    monkeypatch.setattr(sys, "argv", ["run.py", f"--out={folder}", "--target=scores", "--cases=2000"])
    thread = threading.Thread(target=end)
    thread.start()
    try:
        run.main()
    finally:
        ended.set()
        thread.join()
    out = capsys.readouterr().out
    assert "interrupted" in out
    assert 0 < sum(json.loads(out.splitlines()[-1])["scores"].values()) < 2000
    assert list(folder.iterdir()) == []


def test_a_case_is_repeated_by_its_number():
    drawn = [mutators.mutate_json(case.rng_of("records", 0, 7), {"a": [1, 2], "b": "text"}) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_values_that_json_lacks_are_written_into_its_text():
    rng, texts = random.Random(0), set()
    for _ in range(300):
        texts.add(mutators.json_text(mutators.mutate_json(rng, {"key": 1})[0]))
    assert {'{"key": NaN}', '{"key": 1e400}', '{"key": 1, "key": 1}', '{"KEY": 1}', "{}"} <= texts


def _writes(name, code, err=""):
    def call():
        with open(name, "w") as file:
            file.write("x")
        return Result(code, "", err)

    return call


def _waits():
    time.sleep(60)


@pytest.mark.parametrize(
    ("outcome", "made"),
    [
        ("traceback", Case(lambda: 1 // 0, "", "")),
        ("hang", Case(_waits, "", "")),
        ("exit code", Case(lambda: Result(1, "", "aloe: no\n"), "", "")),
        ("many lines", Case(lambda: Result(2, "", "aloe: no\nand more\n"), "", "")),
        ("long line", Case(lambda: Result(2, "", f"aloe: {'x' * 3_000}\n"), "", "")),
        ("control characters", Case(lambda: Result(2, "", "aloe: '\x1b[31m'\n"), "", "")),
        ("memory", Case(lambda: bytearray(1 << 40), "", "")),
        ("litter", Case(_writes("out", 2, "aloe: no\n"), "", "", writes=("out",))),
        ("litter", Case(_writes("other", 0), "", "", writes=("out",))),
        ("changed input", Case(_writes("input", 0), "", "")),
        ("wrong value", Case(lambda: Result(0, "", ""), "", "", check=lambda result: "wrong")),
        ("wrong value", Case(lambda: Result(0, "", ""), "", "", refuses=True)),
        ("ok", Case(_writes("out", 0), "", "", writes=("out",))),
        ("refused", Case(lambda: Result(2, "", "aloe: no\n"), "", "")),
        ("resumable", Case(lambda: Result(75, "", "dataset: started\naloe: later\n"), "", "")),
    ],
)
def test_every_kind_of_problem_is_noticed(outcome, made, tmp_path, monkeypatch):
    monkeypatch.setattr(case, "DEADLINE", 0.2)
    (tmp_path / "input").write_text("good")
    assert judge("made", lambda rng, folder: made, 0, 0, tmp_path).outcome == outcome
