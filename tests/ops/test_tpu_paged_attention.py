"""The TPU kernel over pages in interpret mode against a float64 softmax, and its compilation ahead of time for every
chip of the table."""

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
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from aloe_jax.ops import tpu_paged_attention
from aloe_jax.ops.attention import NO_WINDOW
from aloe_jax.parallel.chips import CHIPS
from aloe_jax.parallel.mesh import make_mesh
from helpers.aloe_command import HELPERS
from helpers.paged_samples import Paged, assert_exact, paged

SCALE = 0.25


@functools.cache
def compiled(pages):
    """One program per shape, for all lengths, windows and caps. Blocks hold `pages` pages."""
    return jax.jit(functools.partial(tpu_paged_attention.pallas, scale=SCALE, pages=pages, interpret=True))


def run(sample, pages, window=None, soft_cap=None):
    window = None if window is None else jnp.int32(window)
    soft_cap = None if soft_cap is None else jnp.float32(soft_cap)
    return compiled(pages)(*sample, window=window, soft_cap=soft_cap)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    start=st.lists(st.integers(-2, 127), min_size=6, max_size=6),
    limits=st.sampled_from([(1, 0.0), (5, 0.7), (16, 30.0), (40, 0.0), (NO_WINDOW, 0.0), (NO_WINDOW, 2.0)]),
    seed=st.integers(0, 100),
)
def test_equals_a_softmax_over_what_is_seen(start, limits, seed):
    """Pages of 16 tokens, three per block, so that up to three blocks of a row and those of its neighbours follow each
    other; idle rows included. All other pages hold NaN, and so does memory that nothing was written to."""
    sample = paged(start, 1, seed)
    out = run(sample, 3, *limits)
    assert_exact(out, sample, SCALE, *limits)
    assert not out[np.asarray(start) < 0].any()


def test_prompts_in_bfloat16_without_limits():
    """20 queries of each of three heads over pages of two per block: 60 rows of scores, in an odd number of rows of
    tokens."""
    sample = paged([0, 100, -1, 37, 108], 20, dtype=jnp.bfloat16)
    assert_exact(run(sample, 2), sample, SCALE)


def test_sharded_rows_find_their_keys_in_their_own_pages():
    """Two chips of rows and two of heads, with blocks as wide as the tables."""
    parts = [paged([10 * chip, 100 - chip], 1, seed=chip) for chip in range(2)]
    whole = Paged(*(jnp.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    row, heads, pages = PartitionSpec("fsdp"), PartitionSpec("fsdp", None, "tensor"), PartitionSpec("fsdp", "tensor")
    attention = jax.shard_map(
        functools.partial(tpu_paged_attention.pallas, scale=SCALE, interpret=True),
        mesh=make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4]),
        in_specs=(heads, pages, pages, row, row),
        out_specs=heads,
        check_vma=False,
    )
    out = jax.jit(attention)(*whole)
    for chip, part in enumerate(parts):
        assert_exact(out[2 * chip : 2 * chip + 2], part, SCALE)


def test_a_block_is_computed_on_when_its_copies_have_arrived():
    """The interpreter of TPUs here carries out a copy when it is waited for, and not before. Memory holds NaN until
    then."""
    late = pltpu.InterpretParams(dma_execution_mode="on_wait", uninitialized_memory="nan")
    sample = paged([40, -1, 100], 1, heads=2, groups=1)
    attention = jax.jit(functools.partial(tpu_paged_attention.pallas, scale=SCALE, pages=3, interpret=late))
    assert_exact(attention(*sample), sample, SCALE)


def test_blocks_hold_as_many_pages_as_their_memory_allows():
    """Half a MiB of keys: of eight heads of width 128 in bf16, four pages of 64 tokens, and no more of width 64, which
    fills 128 lanes too; of one head 32, or all entries of a shorter table. 2,048 queries per head leave room for the
    scores of 128 keys."""

    def pages(groups, queries, entries, width=128):
        shape = tpu_paged_attention.Shape((4, groups, queries, width), 1, 64, entries, jnp.dtype(jnp.bfloat16))
        return shape.pages

    assert [pages(8, 4, 64), pages(8, 4, 64, 64)] == [4, 4]
    assert [pages(1, 4, 64), pages(1, 4, 7), pages(1, 2048, 64)] == [32, 7, 2]


def test_pages_that_fill_no_tile_are_refused():
    with pytest.raises(ValueError, match="pages of 24 tokens: the TPU kernel needs a multiple of 16"):
        tpu_paged_attention.pallas(*paged([3], 1, size=24), scale=SCALE, interpret=True)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu compiles ahead of time, on Linux only")
def test_compiles_for_tpus():
    """Inside jit and shard_map, for every chip of the table, and in layers that also write, as the engine runs them. In
    a process of its own, because libtpu can be loaded once.

    A call moves its grid x its blocks, all pages in use and all lanes filled: keys and values of 4 rows x 16 entries,
    and queries and outputs. Layers move that each, the new keys and values, and what their sums read and write, three
    times the queries at most. Nothing copies all pages of a layer, which are 64 times as many.
    """
    script = HELPERS / "compile_paged_for_tpus.py"
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    modules = [json.loads(line) for line in result.stdout.splitlines()]
    assert {module["topology"].partition(":")[0] for module in modules} == set(CHIPS)
    for module in modules:
        assert module["chip"] == CHIPS[module["topology"].partition(":")[0]].kinds[0]
        layers = module["layers"]
        assert module["kernels"] == ["paged_attention"] * max(layers, 1)
        assert not module["whole_pools"]
        tokens, queries = 4 * 16 * module["page"], 4 * module["new"] * module["heads"] // module["groups"]
        width = module["groups"] // 2 * max(module["width"], 128) * jnp.dtype(module["dtype"]).itemsize
        least, sums = 2 * (tokens + queries) * width * max(layers, 1), 3 * queries * width * layers
        assert least <= module["moved"] < 1.02 * least + sums
