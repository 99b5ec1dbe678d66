"""A training of two epochs that ends at their border, or a step before or behind it, continues to the same end."""

from __future__ import annotations

import os
import shutil
import signal

import jax
import numpy as np
import pytest

from aloe_jax.data.pipeline import Batches, micro_batch_rows
from aloe_jax.data.plan import pack_plan
from aloe_jax.errors import ResumableError
from aloe_jax.train.loop import train
from helpers.small_training import CAPACITY, copied, records, training

STEPS = 3  # of an epoch: five conversations of two pairs each, at most four pairs per step


@pytest.fixture(scope="module")
def epochs(source, one_device):
    plan = pack_plan(source.sizes, source.conversation, CAPACITY, batch=4, unit="pairs", seed=0, epochs=2)
    return Batches(source, plan, CAPACITY, micro_batch_rows(1, one_device))


def trained(epochs, reference, mesh, folder):
    """The small training with little to compile."""
    settings = {"checkpoint_every": STEPS, "keep": 2, "entropy": False, "turn_buckets": 0}
    return training(epochs, reference, mesh, folder, **settings)


@pytest.fixture(scope="module")
def uninterrupted(epochs, reference, one_device, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(trained(epochs, reference, one_device, folder), copied)


def test_both_epochs_hold_everything_in_orders_of_their_own(epochs):
    first, second = epochs.plan.steps[:STEPS], epochs.plan.steps[STEPS:]
    assert len(second) == STEPS
    for steps in (first, second):
        assert sorted(number for step in steps for row in step for number in row) == list(range(5))
    assert first != second


def check_equal(folder, state, uninterrupted):
    """Bit for bit: every line of metrics.jsonl but for time, the parameters and the optimiser's state."""
    expected_folder, expected = uninterrupted
    assert records(folder) == records(expected_folder)
    assert all(record["weight"] > 0 for record in records(folder))
    jax.tree.map(np.testing.assert_array_equal, state.params, expected.params)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, expected.opt_state)


def test_killed_behind_the_checkpoint_at_the_border(epochs, uninterrupted, reference, one_device, tmp_path):
    folder = shutil.copytree(uninterrupted[0], tmp_path / "killed")
    shutil.rmtree(folder / f"checkpoints/{2 * STEPS}")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [str(STEPS)]
    given = trained(epochs, reference, one_device, folder)
    state = train(given, lambda: pytest.fail("the checkpoint has the parameters"))
    check_equal(folder, state, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [STEPS - 1, STEPS, STEPS + 1])
def test_stopped_by_a_signal_around_the_border(stop, epochs, uninterrupted, reference, one_device, tmp_path):
    """The signal comes while step `stop` runs, after which there is a checkpoint."""
    given = trained(epochs, reference, one_device, tmp_path)

    def report(done, total, record):
        if done == stop - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(ResumableError, match=f"stopped after step {stop} of {2 * STEPS}"):
        train(given, copied, report)
    assert (tmp_path / f"checkpoints/{stop}").is_dir()
    assert [record["step"] for record in records(tmp_path)] == list(range(1, stop + 1))
    check_equal(tmp_path, train(given, lambda: pytest.fail("the checkpoint has the parameters")), uninterrupted)
