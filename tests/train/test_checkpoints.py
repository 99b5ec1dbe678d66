"""Asynchronous checkpoints, and which checkpoints are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from aloe_jax.train.checkpoints import Checkpoints
from aloe_jax.train.state import TrainState

SIZE = 1 << 20


def state(step, value):
    return TrainState(jnp.asarray(step, jnp.int32), {"weight": value}, {"moment": value + 1}, {})


def test_what_is_saved_is_what_was_there_when_save_was_called(tmp_path):
    """The step after a save donates the arrays and overwrites their memory."""
    update = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0 - 7, state), donate_argnums=0)
    numbers = np.arange(SIZE, dtype=np.float32)
    with Checkpoints(tmp_path) as checkpoints:
        now = state(3, jnp.asarray(numbers))
        checkpoints.save(now, {"next_index": 3})
        for _ in range(3):
            now = jax.block_until_ready(update(now))
        checkpoints.wait()
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), now)
        stored, position = checkpoints.restore(abstract, 3)
    assert (int(stored.step), position) == (3, {"next_index": 3})
    np.testing.assert_array_equal(stored.params["weight"], numbers)
    np.testing.assert_array_equal(stored.opt_state["moment"], numbers + 1)


@pytest.mark.parametrize(
    ("keep", "keep_every", "left"),
    [
        (3, 2, {2, 4, 5, 6, 7}),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 0, {7}), (2, 0, {6, 7}), (1, 3, {3, 6, 7}))),
    ],
)
def test_which_stay(keep, keep_every, left, tmp_path):
    with Checkpoints(tmp_path, keep, keep_every) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(state(step, jnp.ones(2)), {"next_index": step})
    assert {int(path.name) for path in epath.Path(tmp_path).iterdir()} == left
