"""Where the time of a training went, over all calls."""

import json

import pytest

from aloe_jax.train.goodput import STARTS, add_start, goodput


def line(number, at, **seconds):
    parts = {f"{name}_seconds": value for name, value in seconds.items()}
    return json.dumps({"step": number, "time": at, "seconds": sum(seconds.values())} | parts)


@pytest.fixture
def folder(tmp_path):
    """Two calls. The first began at 100 s, took 30 s to load and compile and wrote steps 1 and 2, of 10 and 14 s; it
    was killed at 160 s. The second began at 200 s after step 1, so step 2 was done again; after 20 s of loading it
    wrote steps 2 and 3 of 15 s each, with 5 s for a checkpoint."""
    first = [line(1, 140, start=20, compile=10, step=10), line(2, 154, step=14)]
    add_start(tmp_path, 100.0, 0)
    (tmp_path / "metrics.jsonl").write_text("\n".join([*first, '{"step": 3, "ti']))
    add_start(tmp_path, 200.0, 1)
    second = [line(2, 235, start=20, step=15), line(3, 255, step=15, checkpoint=5)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([first[0], *second]) + "\n")
    return tmp_path


def test_every_second_has_a_cause(folder):
    """155 s from 100 to 255: 10 + 15 + 15 in steps that count, 46 s from the last line at 154 to 200."""
    found = goodput(folder)
    assert found.calls == 2
    assert found.seconds == pytest.approx(
        {
            "step": 40,
            "start": 40,
            "data": 0,
            "compile": 10,
            "checkpoint": 5,
            "held_out": 0,
            "redone": 14,
            "between calls": 46,
            "other": 0,
        }
    )
    assert found.share == pytest.approx(40 / 155)
    assert found.text() == (
        "26% of 2 min 35 s in 2 calls (between calls 30%, start 26%, redone 9%, compile 6%, checkpoint 3%)"
    )


def test_time_that_nothing_tells_of_is_other(folder):
    """A minute without a line, as of a clock that was set."""
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(line(4, 335, step=20) + "\n")
    assert goodput(folder).seconds["other"] == pytest.approx(60)


def test_a_training_without_times_has_none(folder):
    assert goodput(folder / "nowhere") is None
    (folder / "metrics.jsonl").write_text('{"step": 1, "seconds": 3}\n')
    assert goodput(folder) is None
    (folder / STARTS).write_text('{"time": 1')
    assert goodput(folder) is None
