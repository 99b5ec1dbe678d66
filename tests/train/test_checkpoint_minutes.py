"""Checkpoints by the clock, and where a training says that it continues."""

import os
import re
import signal

import jax
import numpy as np
import pytest

from aloe_jax.errors import ResumableError
from aloe_jax.parallel import hosts
from aloe_jax.train import interval as interval_module
from aloe_jax.train.interval import Interval
from aloe_jax.train.loop import train
from helpers.small_training import copied, records, training


def hang_up(step):
    """A report callback that sends this process SIGHUP after a step, twice, as shell and kernel do."""

    def report(done, total, record):
        if done == step:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)

    return report


class FakeTime:
    """Replaces `time` in the module: each look at the clock is 50 seconds later."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 50
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(interval_module, "time", FakeTime())


def test_a_checkpoint_when_the_minutes_are_over_and_an_equal_resume(
    clock, whole, batches, reference, one_device, tmp_path
):
    """The clock is read when the training begins, after each step and after a save: after steps 1 and 2 it is 50 and
    100 seconds later, so with 1.5 minutes step 2 is saved and in turn step 4. The terminal is closed after step 4;
    what follows is bitwise the same as without an end, with another setting."""
    given = training(batches, reference, one_device, tmp_path, checkpoint_every=100, checkpoint_minutes=1.5, keep=9)
    with pytest.raises(ResumableError):
        train(given, copied, hang_up(4))
    saved = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert saved == [2, 4, 5]
    for step in (4, 5):
        (tmp_path / f"checkpoints/{step}").rename(tmp_path / f"{step}")
    lines = []
    again = training(batches, reference, one_device, tmp_path, checkpoint_every=100, checkpoint_minutes=0)
    state = train(again, lambda: pytest.fail("the checkpoint has the parameters"), line=lines.append)
    assert any(
        re.fullmatch(rf"{tmp_path.name}: continuing from step 2 of 5 \(checkpoint of .*\)", line) for line in lines
    )
    assert records(tmp_path) == records(whole[0])
    jax.tree.map(np.testing.assert_array_equal, state.params, whole[1].params)


def test_the_clock_of_the_primary_process_decides(clock, monkeypatch):
    """On another process, whose own clock says otherwise."""
    for said in (0, 1):
        monkeypatch.setattr(hosts, "broadcast_from_primary", lambda value, said=said: said)
        assert Interval(1e-9).over() is bool(said)
        assert Interval(1e9).over() is bool(said)
    assert Interval(0).over() is False
