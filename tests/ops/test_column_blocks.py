"""Products with weights in blocks of columns against plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.ops import column_blocks


@pytest.mark.parametrize("rows", [1, 5, column_blocks.MOST_ROWS, column_blocks.MOST_ROWS + 1])
def test_a_product_with_blocks_is_the_product(rows):
    keys = jax.random.split(jax.random.key(0), 2)
    x, weight = jax.random.normal(keys[0], (rows, 40)), jax.random.normal(keys[1], (40, 6, 32))
    blocks = column_blocks.split(weight, 1)
    assert blocks.shape == (3, 40, 64)
    exact = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).reshape(40, -1)
    # Each sum of 40 products is rounded 40 times at most.
    bound = 40 * np.finfo(np.float32).eps * (np.abs(x) @ np.abs(weight.reshape(40, -1)))
    assert (np.abs(column_blocks.product(x, blocks) - exact) <= bound).all()


def test_several_input_axes_become_one():
    weight = jnp.arange(2 * 3 * 64.0).reshape(2, 3, 64)
    np.testing.assert_array_equal(column_blocks.split(weight, 2), weight.reshape(1, 6, 64))


@pytest.mark.parametrize("shape", [(40, 96), (64, 64, 64)])
def test_what_does_not_divide_or_could_be_mistaken_stays(shape):
    weight = jnp.ones(shape)
    assert column_blocks.split(weight, len(shape) - 1 if shape[0] == 40 else 1) is weight
