"""The TPU kernels in interpret mode against the dense form, their block table against a brute force, and their
compilation ahead of time for every chip of the table."""

import functools
import importlib.util
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from aloe_jax.ops import tpu_attention
from aloe_jax.ops.attention import NO_WINDOW, dense
from aloe_jax.ops.block_table import block_table, running_blocks, table_block
from aloe_jax.parallel.chips import CHIPS
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.tree.row import allowed
from helpers.aloe_command import HELPERS

# f32: sums of some hundred products of order 1.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@st.composite
def forests(draw, length):
    """(subtree_end, positions) of a row of random trees with padding behind them. Pieces are up to a quarter of the row
    long, so that some blocks are visible, some partly, some not at all."""
    used = draw(st.integers(0, length))
    end, positions = np.arange(1, length + 1), np.zeros(length, np.int64)
    path: list[tuple[int, int]] = []  # (start, stop) of the pieces that can be the next one's parent
    start = 0
    while start < used:
        stop = min(used, start + draw(st.integers(1, length // 4)))
        path = path[: draw(st.integers(0, len(path)))]
        depth = positions[path[-1][1] - 1] + 1 if path else 0
        positions[start:stop] = depth + np.arange(stop - start)
        path.append((start, stop))
        for above, below in path:
            end[above:below] = stop
        start = stop
    return end.astype(np.int32), positions.astype(np.int32)


def path(length):
    """(subtree_end, positions) of a single path."""
    return np.full(length, length, np.int32), np.arange(length, dtype=np.int32)


def trees(*lengths):
    """(subtree_end, positions) of paths side by side in one row."""
    ends = np.repeat(np.cumsum(lengths), lengths)
    return ends.astype(np.int32), np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)


def random_inputs(length, seed, heads=4, groups=2, width=16, batch=2, dtype=jnp.float32):
    """Random query, key, value and the weights of the sum that is differentiated."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=(batch, length, n, width)), dtype) for n in (heads, groups, groups, heads)]


@functools.cache
def compiled(kernel, scale):
    """(output, gradients of query, key and value) of one implementation. Compiled once for all trees, windows and caps
    of the same shapes."""
    attention = functools.partial(tpu_attention.pallas, interpret=True) if kernel else dense

    @jax.jit
    def run(query, key, value, weight, *layer):
        out, gradients = jax.vjp(lambda *qkv: attention(*qkv, *layer, scale=scale), query, key, value)
        return out, gradients(weight)

    return run


def run(kernel, inputs, rows, window=None, soft_cap=None):
    end, positions = (jnp.asarray(np.stack(marks)) for marks in zip(*rows, strict=True))
    return compiled(kernel, inputs[0].shape[-1] ** -0.5)(*inputs, end, positions, window, soft_cap)


def both(*args):
    """What the kernels give and what the dense form gives."""
    return run(True, *args), run(False, *args)


def assert_close(got, expected):
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, **CLOSE), got, expected)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    rows=st.lists(forests(384), min_size=2, max_size=2),
    window=st.sampled_from([1, 5, 60, 200, NO_WINDOW]),
    soft_cap=st.sampled_from([0.0, 0.7, 30.0]),
    seed=st.integers(0, 100),
)
def test_equals_dense_with_windows_and_caps(rows, window, soft_cap, seed):
    """Three blocks of 128 per row, two query heads per key head; no window and no cap included."""
    assert_close(*both(random_inputs(384, seed), rows, jnp.int32(window), jnp.float32(soft_cap)))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(rows=st.lists(forests(384), min_size=2, max_size=2), seed=st.integers(0, 100))
def test_equals_dense(rows, seed):
    assert_close(*both(random_inputs(384, seed), rows))


def test_wide_blocks_one_key_head_and_a_window_alone():
    """Two blocks of 512, three query heads on one key head."""
    inputs = random_inputs(1024, 0, heads=3, groups=1, width=8, batch=1)
    assert_close(*both(inputs, [trees(300, 600, 124)], jnp.int32(100)))


@pytest.mark.parametrize(
    ("filled", "window", "soft_cap"), [((300, 84), None, None), ((250, 60), jnp.int32(100), jnp.float32(2.0))]
)
def test_bfloat16_is_as_exact_as_its_roundings(filled, window, soft_cap):
    """Against the dense form in f32 on the same bf16 inputs. A rounding to bf16, 8 bits, is off by at most a 2^-8th.

    Weights w are rounded before they meet values or output gradients, and each result once, so output and value
    gradient are within 2 x 2^-8 sum(w |v|) and 2 x 2^-8 sum(w |d_out|), which the dense form computes from absolute
    values. Score gradients w (d_w - delta) hold delta from the rounded output, itself of two roundings, and are rounded
    before the product and after it: 4 x 2^-8 in norm. A window, a soft cap (whose slope is at most 1) and padding, in
    which each token is a tree, round nothing more.
    """
    padding = [1] * (384 - sum(filled))
    low, rows = random_inputs(384, 0, dtype=jnp.bfloat16), [path(384), trees(*filled, *padding)]
    out, gradients = run(True, low, rows, window, soft_cap)
    assert {array.dtype for array in (out, *gradients)} == {jnp.dtype(jnp.bfloat16)}
    query, key, value, weight = (array.astype(jnp.float32) for array in low)
    exact, (d_query, d_key, d_value) = run(False, (query, key, value, weight), rows, window, soft_cap)
    sizes, (_, _, d_sizes) = run(False, (query, key, abs(value), abs(weight)), rows, window, soft_cap)
    assert np.all(abs(out - exact) <= 2**-7 * sizes + 1e-5)
    assert np.all(abs(gradients[2] - d_value) <= 2**-7 * d_sizes + 1e-5)
    for got, expected in zip(gradients[:2], (d_query, d_key), strict=True):
        assert np.linalg.norm(got - expected) <= 2**-6 * np.linalg.norm(expected)


def test_blocks_that_no_query_sees_are_not_read():
    """Two trees in separate blocks: the values of the first do not reach the second, not even as 0 x NaN, which is
    NaN."""
    query, key, value, weight = random_inputs(384, 0)
    rows = [trees(256, 128)] * 2
    clean, clean_gradients = run(True, (query, key, value, weight), rows)
    poisoned = [array.at[:, :256].set(jnp.nan) for array in (query, key, value)]
    out, gradients = run(True, (*poisoned, weight), rows)
    assert np.isnan(out[:, :256]).all()
    for got, expected in zip((out, *gradients), (clean, *clean_gradients), strict=True):
        np.testing.assert_array_equal(got[:, 256:], expected[:, 256:])


def test_sharded_with_a_cap_alone():
    """Each of eight devices makes its own block table from its own rows."""
    mesh = make_mesh(fsdp=4, tensor=2)
    row, heads = PartitionSpec("fsdp"), PartitionSpec("fsdp", None, "tensor")
    soft_cap = jnp.float32(0.7)
    attention = jax.shard_map(
        lambda *args: tpu_attention.pallas(*args, None, soft_cap, scale=0.25, interpret=True),
        mesh=mesh,
        in_specs=(heads, heads, heads, row, row),
        out_specs=heads,
        check_vma=False,
    )
    query, key, value, weight = random_inputs(256, 0, batch=4)
    rows = [path(256), trees(128, 128), trees(9, 247), trees(200, 56)]
    end, positions = (jnp.asarray(np.stack(marks)) for marks in zip(*rows, strict=True))

    @jax.jit
    def sharded(*qkv):
        out, gradients = jax.vjp(lambda *qkv: attention(*qkv, end, positions), *qkv)
        return out, gradients(weight)

    assert_close(sharded(query, key, value), run(False, (query, key, value, weight), rows, None, soft_cap))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=st.lists(forests(96), min_size=2, max_size=2), window=st.sampled_from([None, 1, 10, 40, NO_WINDOW]))
def test_running_blocks_are_those_with_a_visible_pair(rows, window):
    """Exactly without a window, at least those with one."""
    end, positions = (np.stack(marks) for marks in zip(*rows, strict=True))
    running = np.asarray(running_blocks(end, positions, window, 16))
    seen = allowed(positions, end, window).reshape(-1, 6, 16, 6, 16).any(axis=(2, 4))
    assert (running >= seen).all()
    if window in (None, NO_WINDOW):
        assert (running == seen).all()


def test_a_window_skips_what_lies_behind_it():
    """On a path with blocks of 16 a window of 16 reaches one block back, one of 17 as well, one of 18 two."""
    end, positions = (mark[None] for mark in path(96))
    counts = [int(running_blocks(end, positions, window, 16).sum()) for window in (1, 2, 17, 18)]
    assert counts == [6, 11, 11, 15]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(below=st.lists(st.booleans(), min_size=12, max_size=12), by_key=st.booleans())
def test_block_table_lists_the_running_blocks(below, by_key):
    """Any choice of blocks below the diagonal, in two rows of four: the list is theirs, home block by home block."""
    grid = np.zeros((2, 4, 4), bool) | np.eye(4, dtype=bool)
    grid[:, *np.tril_indices(4, -1)] = np.reshape(below, (2, 6))
    table, count = block_table(jnp.asarray(grid), by_key)
    expected = [tuple(map(int, entry)) for entry in np.argwhere(grid.swapaxes(1, 2) if by_key else grid)]
    assert int(count) == len(expected)
    assert table.row.shape == (20,)
    row, home, other, first, last = (np.asarray(column)[: len(expected)].tolist() for column in table)
    assert list(zip(row, home, other, strict=True)) == expected
    homes = [entry[:2] for entry in expected]
    assert first == [int(index == 0 or homes[index - 1] != here) for index, here in enumerate(homes)]
    assert last == [int(index == len(homes) - 1 or homes[index + 1] != here) for index, here in enumerate(homes)]


def test_block_is_the_widest_that_divides_the_row():
    assert [table_block(length) for length in (128, 256, 384, 1280, 1536, 8192)] == [128, 256, 128, 256, 512, 512]
    with pytest.raises(ValueError, match="row of 200 tokens: the TPU kernel needs a multiple of 128"):
        table_block(200)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 12}, "head width 12: the TPU kernel needs a multiple of 8"),
        ({"heads": 3}, "3 query heads cannot share 2 key heads evenly"),
        ({"length": 200}, "row of 200 tokens"),
    ],
)
def test_shapes_it_cannot_take_are_refused(change, message):
    shapes = {"length": 128, "heads": 4, "width": 8} | change
    query, key, value, _ = random_inputs(shapes["length"], 0, heads=shapes["heads"], width=shapes["width"])
    marks = [jnp.asarray(mark)[None] for mark in path(shapes["length"])]
    with pytest.raises(ValueError, match=message):
        tpu_attention.pallas(query, key, value, *marks, None, None, scale=1.0, interpret=True)


def test_mixed_types_are_refused():
    query, key, value, _ = random_inputs(128, 0)
    with pytest.raises(ValueError, match="query, key and value are float32, bfloat16 and float32; expected one type"):
        tpu_attention.pallas(query, key.astype(jnp.bfloat16), value, *path(128), None, None, scale=1.0)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu compiles ahead of time, on Linux only")
def test_compiles_for_tpus():
    """Forward and backward inside jit and shard_map, for every chip of the table. In a process of its own, because
    libtpu can be loaded once. One value per query and head takes 4 bytes in HBM (a tile of one sublane), and no mask of
    queries x keys exists."""
    script = HELPERS / "compile_for_tpus.py"
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    modules = [json.loads(line) for line in result.stdout.splitlines()]
    names = [module["topology"].partition(":")[0] for module in modules]
    assert set(names) == set(CHIPS)
    for name, module in zip(names, modules, strict=True):
        assert module["chip"] == CHIPS[name].kinds[0]
        assert sorted(module["kernels"]) == [f"tree_attention_{name}" for name in ("forward", "key", "query")]
        assert module["log_sum_tiles"] == "1,128"
        assert not module["masks"]
