"""Tree attention: blocked equals dense, dense is the mask of the design, shards equal one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.ops import attention
from aloe_jax.ops.attention import tree_attention, visible_blocks
from aloe_jax.parallel.mesh import make_mesh


def random_ends(length, rng):
    """`subtree_end` of random nested pieces, several trees one after the other."""
    end = np.zeros(length, np.int32)

    def fill(start, stop):
        while start < stop:
            piece = rng.integers(1, min(stop - start, 9) + 1)
            subtree = rng.integers(piece, stop - start + 1)
            end[start : start + piece] = start + subtree
            fill(start + piece, start + subtree)
            start += subtree

    fill(0, length)
    return end


def inputs(length, batch=2, heads=8, groups=4, width=8, seed=0):
    """Random (query, key, value, weights of the sum), and the other inputs of attention: subtree ends of random
    trees and positions on their paths, without window and soft cap."""
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = [(batch, length, count, width) for count in (heads, groups, groups, heads)]
    rng = np.random.default_rng(seed)
    ends = np.stack([random_ends(length, rng) for _ in range(batch)])
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    return arrays, (jnp.asarray(ends), jnp.asarray(np.stack([depths(row) for row in ends])), None, None)


def depths(ends):
    """The number of tokens above each on its path."""
    index = np.arange(len(ends))
    return ((index < index[:, None]) & (index[:, None] < ends)).sum(axis=1).astype(np.int32)


SCALE = 8**-0.5
blocked, dense = (functools.partial(function, scale=SCALE) for function in (attention.blocked, attention.dense))
WINDOWS = [(None, None), (5, None), (None, 1.5), (3, 0.7), (attention.NO_WINDOW, 0.0)]


@pytest.mark.parametrize(("window", "soft_cap"), WINDOWS)
@pytest.mark.parametrize(
    ("length", "block", "seed"),
    [(96, 32, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((64, 16, 0), (48, 48, 2), (10, 256, 3)))],
)
def test_blocked_equals_dense(length, block, seed, window, soft_cap):
    (query, key, value, weight), (ends, positions, *_) = inputs(length, seed=seed)
    scalars = [None if scalar is None else jnp.asarray(scalar) for scalar in (window, soft_cap)]

    def run(attend):
        return jax.value_and_grad(lambda *qkv: jnp.sum(attend(*qkv) * weight), argnums=(0, 1, 2))(query, key, value)

    expected = run(lambda *qkv: dense(*qkv, ends, positions, *scalars))
    got = run(lambda *qkv: blocked(*qkv, ends, positions, *scalars, block=block))
    # Sums of some hundred products of order 1 in f32.
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-4, atol=2e-5), got, expected)


def test_bfloat16_stays_near_float32():
    (query, key, value, _), ends = inputs(64)
    low = [array.astype(jnp.bfloat16) for array in (query, key, value)]
    got = blocked(*low, *ends, block=16)
    assert got.dtype == jnp.bfloat16
    exact = dense(*[array.astype(jnp.float32) for array in low], *ends)
    # bf16 keeps 8 bits; outputs are weighted means of values of order 1 to 3.
    np.testing.assert_allclose(got.astype(jnp.float32), exact, atol=3 * 2**-7)


@pytest.mark.parametrize(("window", "soft_cap"), WINDOWS)
def test_dense_is_the_mask_of_the_design(window, soft_cap):
    """Each output is the softmax over exactly the keys with j <= i < subtree_end[j], within the window on the path."""
    (query, key, value, _), (ends, positions, *_) = inputs(20, batch=1, heads=1, groups=1)
    scalars = [None if scalar is None else jnp.asarray(scalar) for scalar in (window, soft_cap)]
    got = np.asarray(dense(query, key, value, ends, positions, *scalars))[0, :, 0]
    q, k, v, end, depth = (np.asarray(array, np.float64)[0] for array in (query, key, value, ends, positions))
    for i in range(20):
        seen = [j for j in range(20) if j <= i < end[j] and (window is None or depth[i] - depth[j] < window)]
        scores = np.array([q[i, 0] @ k[j, 0] for j in seen]) / np.sqrt(8)
        scores = soft_cap * np.tanh(scores / soft_cap) if soft_cap else scores
        weights = np.exp(scores - scores.max())
        expected = weights / weights.sum() @ v[seen, 0]
        np.testing.assert_allclose(got[i], expected, atol=1e-5)


def test_only_visible_blocks_are_visited():
    """Four separate blocks of 8: each query block visits itself alone; one long path visits the causal half."""
    apart = jnp.repeat(jnp.arange(1, 5) * 8, 8)
    assert visible_blocks(apart, 8).count.tolist() == [1, 1, 1, 1]
    assert visible_blocks(apart, 8).order[:, 0].tolist() == [0, 1, 2, 3]
    assert visible_blocks(jnp.full(32, 32), 8).count.tolist() == [1, 2, 3, 4]
    # A window of 8 reaches from the first token of a block into the block before, one of 1 does not.
    path = jnp.full(32, 32), 8, jnp.arange(32)
    assert visible_blocks(*path, jnp.asarray(8)).count.tolist() == [1, 2, 2, 2]
    assert visible_blocks(*path, jnp.asarray(1)).count.tolist() == [1, 1, 1, 1]


def test_no_square_matrix_is_held():
    """The compiled forward and backward of 2,048 tokens need less memory than one T x T matrix of f32 per head."""
    length, heads = 2048, 4
    (query, key, value, _), ends = inputs(length, batch=1, heads=heads, groups=2)
    run = jax.jit(jax.grad(lambda q: jnp.sum(blocked(q, key, value, *ends, block=128))))
    memory = run.lower(query).compile().memory_analysis()
    assert memory.temp_size_in_bytes < heads * length * length * 4 / 4


def test_row_that_does_not_divide_is_refused():
    (query, key, value, _), ends = inputs(40)
    with pytest.raises(ValueError, match="40 tokens is not a multiple of the attention block 16"):
        blocked(query, key, value, *ends, block=16)


@pytest.mark.parametrize("shape", [(8, 1), (4, 2), (2, 4)])
def test_sharded_equals_local(shape):
    fsdp, tensor = shape
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)
    (query, key, value, _), ends = inputs(32, batch=8)
    rest = *ends[:2], jnp.asarray(6), jnp.asarray(2.0)
    run = jax.jit(functools.partial(tree_attention, scale=SCALE, implementation="blocked", mesh=mesh))
    np.testing.assert_allclose(run(query, key, value, *rest), dense(query, key, value, *rest), atol=2e-5)
