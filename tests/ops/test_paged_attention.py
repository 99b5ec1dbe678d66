"""Attention over pages, in its plain form, against a float64 softmax over the tokens that a query sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.ops.attention import NO_WINDOW
from aloe_jax.ops.paged_attention import chosen, dense, paged_attention
from aloe_jax.parallel.mesh import make_mesh
from helpers.paged_samples import Paged, assert_exact, paged

SCALE = 0.25


@functools.cache
def compiled(scale=SCALE):
    """One program per shape, for all lengths, windows and caps."""
    return jax.jit(functools.partial(dense, scale=scale))


def run(sample, window=None, soft_cap=None):
    window = None if window is None else jnp.int32(window)
    return compiled()(*sample, window=window, soft_cap=None if soft_cap is None else jnp.float32(soft_cap))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    start=st.lists(st.integers(-2, 120), min_size=4, max_size=4),
    new=st.sampled_from([1, 5]),
    limits=st.sampled_from([(None, None), (1, 0.0), (5, 0.7), (16, 30.0), (40, 0.0), (NO_WINDOW, 0.0)]),
    seed=st.integers(0, 100),
)
def test_equals_a_softmax_over_what_is_seen(start, new, limits, seed):
    """Pages of 16 tokens; idle rows included. All other pages hold NaN, so reading one would show."""
    sample = paged(start, new, seed)
    assert_exact(run(sample, *limits), sample, SCALE, *limits)


def test_prompts_of_many_tokens_over_several_pages():
    sample = paged([0, 3, 60, 64], 64)
    assert_exact(run(sample, 50, 2.0), sample, SCALE, 50, 2.0)


@pytest.mark.parametrize("limits", [(None, None), (20, 5.0)])
def test_bfloat16_is_as_exact_as_its_roundings(limits):
    sample = paged([0, 7, 100, 126], 2, dtype=jnp.bfloat16)
    assert_exact(run(sample, *limits), sample, SCALE, *limits)


def test_pages_behind_the_window_and_behind_the_row_are_not_read():
    """At position 100 a window of 20 begins at token 81, in page 5; the entries behind the row's last page name a page
    of NaN."""
    sample = paged([100], 1)
    clean = run(sample, 20)
    keys, values = (pool.at[sample.tables[0, :5]].set(jnp.nan) for pool in (sample.keys, sample.values))
    np.testing.assert_array_equal(run(sample._replace(keys=keys, values=values), 20), clean)


def test_a_row_does_not_depend_on_its_neighbours():
    """The same bits beside short, long and idle rows."""
    sample = paged([37, 120, 5, 60], 1)
    outs = [run(sample._replace(start=jnp.asarray([37, *others]))) for others in ([120, 5, 60], [-1] * 3, [0, 90, 2])]
    for out in outs[1:]:
        np.testing.assert_array_equal(out[0], outs[0][0])


def test_idle_rows_give_zeros():
    out = run(paged([-1, 4, -7], 3))
    assert not out[0].any()
    assert not out[2].any()
    assert out[1].any()


def test_tokens_beyond_the_table_leave_the_others_alone():
    """A chunk that is filled up may reach beyond the last page; what stands within is exact and the rest
    finite."""
    sample = paged([126], 5)
    out = run(sample, 40)
    assert np.isfinite(out).all()
    within = sample._replace(query=sample.query[:, :2])
    assert_exact(out[:, :2], within, SCALE, 40)


def test_sharded_rows_find_their_keys_in_their_own_pages():
    """Four chips of rows, two of heads; each chip of rows has a pool of its own and local numbers in its tables."""
    parts = [paged([10 * chip, 100 - chip], 2, seed=chip) for chip in range(4)]
    whole = Paged(*(jnp.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    mesh = make_mesh(fsdp=4, tensor=2)
    attention = jax.jit(functools.partial(paged_attention, scale=SCALE, mesh=mesh))
    out = attention(*whole, window=jnp.int32(30), soft_cap=jnp.float32(3.0))
    assert out.sharding.shard_shape(out.shape) == (2, 2, 3, 16)
    for chip, part in enumerate(parts):
        assert_exact(out[2 * chip : 2 * chip + 2], part, SCALE, 30, 3.0)


def test_auto_is_the_plain_form_without_a_tpu():
    assert chosen("auto") == "dense"
    assert chosen("auto", make_mesh(fsdp=8)) == "dense"
    assert chosen("pallas") == "pallas"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "3 query heads cannot share 2 key heads evenly"),
        ({"keys": lambda pages: pages[..., :8]}, "heads of query, keys and values are 16, 8 and 16 wide"),
        (
            {"values": lambda pages: pages.astype(jnp.bfloat16)},
            "query, keys and values are float32, float32 and bfloat16; expected one type",
        ),
    ],
)
def test_operands_that_do_not_fit_are_refused(change, message):
    sample = paged([3], 1, heads=change.pop("heads", 6))
    sample = sample._replace(**{name: make(getattr(sample, name)) for name, make in change.items()})
    with pytest.raises(ValueError, match=message):
        dense(*sample, scale=SCALE)
