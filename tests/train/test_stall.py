"""A step that does not end: its stacks, who is named, and what is no stall."""

import os
import subprocess
import sys
import threading

import pytest

from aloe_jax.train import stall
from aloe_jax.train.stall import MEDIANS, StallWatch, behind
from helpers.aloe_command import HELPERS, ROOT, free_port
from helpers.waiting import until


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A watch with a limit of 0.2 seconds, and a function that reads what it wrote."""
    monkeypatch.setattr(stall, "LOOK_EVERY", 0.02)
    with open(tmp_path / "said", "w+") as file, StallWatch(0.2, file) as watch:
        yield watch, (tmp_path / "said").read_text


def test_a_stalled_step_writes_all_stacks_and_names_itself(watched):
    watch, said = watched
    released = threading.Event()
    beside = threading.Thread(target=released.wait, name="beside")
    beside.start()
    watch.step(7)
    told = until(lambda: "aloe: process 0 has been at step 7 for" in said() and "Thread 0x" in said())
    released.set()
    beside.join()
    assert told
    text = said()
    assert text.count("Thread 0x") >= 2  # of the other threads, this one and the watch's own
    assert "test_a_stalled_step_writes_all_stacks" in text
    assert "no other process takes part" in text
    assert text.count("aloe: ") == 1


def test_what_may_take_its_time_is_no_stall(watched):
    """Neither before the first step nor in a compilation or a checkpoint; a step does stall afterwards."""
    watch, said = watched
    pause = threading.Event()
    pause.wait(0.4)
    watch.step(1)
    for part in ("compile", "checkpoint", "held_out"):
        with watch.part(part):
            pause.wait(0.4)
        watch.step(2)
    assert said() == ""
    with watch.part("data"):
        assert until(lambda: "at step 2" in said())


def test_slow_steps_are_no_stall(monkeypatch):
    """Steps of 30 s each: a stall begins after 20 of them, or after the setting if that is more."""
    clock = iter(range(0, 100_000, 30))
    monkeypatch.setattr(stall.time, "monotonic", lambda: float(next(clock)))
    watch = StallWatch(0.0)
    assert watch.limit == 0
    for number in range(1, 6):
        watch.step(number)
    assert watch.limit == pytest.approx(MEDIANS * 30)
    watch._seconds = 5000.0
    assert watch.limit == 5000


def test_who_is_behind():
    def note(step, part, time):
        return {"host": f"h{step}", "step": step, "part": part, "time": time}

    notes = {0: note(5, "step", 90.0), 1: note(3, "data", 40.0), 2: note(5, "step", 90.0)}
    assert behind(notes, 0, 100.0) == "behind is process 1 on h3, at step 3 in 'data' for 1 min 00 s"
    assert "process 1 (this one) on h3" in behind(notes, 1, 100.0)
    assert behind({0: notes[0], 2: notes[2]}, 0, 100.0).startswith("all 2 processes are at step 5")


@pytest.mark.slow
def test_the_other_process_is_named():
    """Process 1 stays in its data; process 0, which is a step ahead, names it."""
    port, path = free_port(), os.pathsep.join(str(ROOT / part) for part in ("", "tests"))
    script = HELPERS / "stalled_process.py"
    started = [
        subprocess.Popen(
            [sys.executable, script, str(port), number],
            env=os.environ | {"PYTHONPATH": path, "XLA_FLAGS": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in ("0", "1")
    ]
    first, second = (process.communicate(timeout=300)[1] for process in started)
    assert [process.returncode for process in started] == [0, 0], first + second
    (line,) = [line for line in first.splitlines() if line.startswith("aloe: ")]
    assert "process 0 has been at step 2 for" in line
    assert "behind is process 1 on " in line
    assert "at step 1 in 'data' for" in line
    assert "Thread 0x" in first
    assert "aloe: " not in second
