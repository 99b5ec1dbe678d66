"""The pack plan: every fragment once, within all capacities, with equal steps and full rows."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_jax.data.plan import pack_plan
from aloe_jax.errors import InputError
from aloe_jax.plan.workload import synthetic
from aloe_jax.tree.row import Capacity

CAPACITY = Capacity(tokens=100, targets=60, replies=10, pairs=8)
ROWS_OF_8192 = Capacity(tokens=8192, targets=6144, replies=256, pairs=128)
FRAGMENTS = st.lists(
    st.tuples(st.integers(1, 100), st.integers(1, 60), st.integers(1, 10), st.integers(0, 8), st.integers(0, 5)),
    min_size=1,
    max_size=20,
)


def plan(sizes, owners, capacity=CAPACITY, **changes):
    settings = {"batch": 3, "unit": "conversations", "seed": 0, "epochs": 2} | changes
    return pack_plan(np.array(sizes), np.array(owners), capacity, **settings)


def members(step):
    return [index for row in step for index in row]


@functools.cache
def ten_turns(count):
    """Sizes of `count` ten-turn conversations, and their owners."""
    sizes = np.resize(synthetic(10, 2, ROWS_OF_8192).sizes, (count, 4))
    return sizes, np.arange(count)


@given(FRAGMENTS, st.sampled_from(["conversations", "pairs"]), st.integers(1, 20), st.integers(0, 3))
def test_everything_once_within_all_capacities_and_no_conversation_torn(fragments, unit, batch, seed):
    sizes, owners = np.array([row[:4] for row in fragments]), np.array([row[4] for row in fragments])
    units = {owner: sizes[owners == owner, 3].sum() if unit == "pairs" else 1 for owner in set(owners.tolist())}
    if not any(units.values()):
        with pytest.raises(InputError, match="no conversation of the dataset has any pairs"):
            plan(sizes, owners, unit=unit, batch=batch)
        return
    made = plan(sizes, owners, unit=unit, batch=batch, seed=seed, epochs=1)
    used = [index for step in made.steps for index in members(step)]
    assert sorted(used) == [index for index in range(len(sizes)) if units[owners[index]]]
    held = [{owners[index] for index in members(step)} for step in made.steps]
    assert sum(map(len, held)) == len(set().union(*held))
    for step, inside in zip(made.steps, held, strict=True):
        assert sum(units[owner] for owner in inside) <= batch or len(inside) == 1
        assert all(CAPACITY.holds(sizes[list(row)].sum(axis=0)) for row in step)
    assert made == plan(sizes, owners, unit=unit, batch=batch, seed=seed, epochs=1)


@pytest.mark.parametrize(("unit", "batch"), [("pairs", 870), ("pairs", 910), ("conversations", 87)])
@pytest.mark.parametrize("count", [512, 3310])
def test_rows_of_8192_are_95_percent_full_of_ten_turn_conversations(unit, batch, count):
    sizes, owners = ten_turns(count)
    for seed in range(3):
        made = plan(sizes, owners, ROWS_OF_8192, unit=unit, batch=batch, seed=seed, epochs=1)
        assert made.fill(sizes, ROWS_OF_8192) >= 0.95


@pytest.mark.parametrize(("unit", "batch"), [("pairs", 870), ("conversations", 48)])
def test_steps_are_alike(unit, batch):
    """3,310 conversations of ten pairs. As few steps as the batch allows (or a few more, to place whole rows), which
    differ by no more than the units of two conversations or so and by one row."""
    sizes, owners = ten_turns(3310)
    made = plan(sizes, owners, ROWS_OF_8192, unit=unit, batch=batch, epochs=1)
    each = 10 if unit == "pairs" else 1
    counts = [each * len(members(step)) for step in made.steps]
    assert len(counts) <= 1.03 * np.ceil(3310 * each / batch)
    assert max(counts) <= batch
    assert max(counts) - min(counts) <= 4 * each
    rows = [len(step) for step in made.steps]
    assert max(rows) - min(rows) <= 1


def test_rows_and_steps_are_random_draws_of_long_and_short_conversations():
    """Lengths within a row vary as among conversations drawn at random, and those of a step say nothing of its place.

    The mean of 3,310 x 9 / 577 = 5.7 draws of deviation s has deviation s / sqrt(5.7); a packer that puts the longest
    first makes it nearly s. Means of steps have no trend: the correlation of 37 independent ones has deviation 1/6.
    """
    sizes, owners = ten_turns(3310)
    made = plan(sizes, owners, ROWS_OF_8192, unit="pairs", batch=910, epochs=1)
    rows = [sizes[list(row), 0] for step in made.steps for row in step]
    expected = sizes[:, 0].std() / np.sqrt(len(sizes) / len(rows))
    assert np.std([row.mean() for row in rows]) == pytest.approx(expected, rel=0.2)
    tokens = [sizes[members(step), 0].mean() for step in made.steps]
    assert abs(np.corrcoef(np.arange(len(tokens)), tokens)[0, 1]) < 3 / 6


def test_a_conversation_of_several_rows_shares_its_smallest():
    """Two full rows and half a row, which is shared with a conversation that fits; one step has all four rows."""
    sizes = [(100, 10, 2, 1), (100, 10, 2, 1), (50, 10, 2, 1), (50, 10, 2, 1), (60, 10, 2, 1)]
    made = plan(sizes, [0, 0, 0, 1, 2], batch=3, epochs=1)
    assert {frozenset(row) for step in made.steps for row in step} == {
        frozenset({0}), frozenset({1}), frozenset({2, 3}), frozenset({4}),
    }  # fmt: skip
    assert len(made.steps) == 1


def test_same_arguments_same_plan_and_epochs_differ():
    sizes, owners = [(20, 10, 2, 1)] * 12, list(range(12))
    assert plan(sizes, owners) == plan(sizes, owners)
    assert plan(sizes, owners) != plan(sizes, owners, seed=1)
    first, second = np.array_split(np.array([str(step) for step in plan(sizes, owners).steps]), 2)
    assert set(first) != set(second)


def test_fill_and_rows():
    """Two conversations of 50 tokens per step: one full row per step."""
    made = plan([(50, 10, 2, 1)] * 4, list(range(4)), batch=2, epochs=1)
    assert made.most_rows == 1
    assert made.fill(np.array([(50, 10, 2, 1)] * 4), CAPACITY) == 1.0


def test_conversations_without_anything_to_train_on_are_left_out():
    """Fragments 0 and 1 are one conversation, which has a trained token; 2 is another without any."""
    made = plan([(50, 10, 2, 0)] * 4, [0, 0, 1, 2], trained=np.array([0, 1, 0, 5]), epochs=1)
    assert sorted(itertools.chain.from_iterable(map(members, made.steps))) == [0, 1, 3]
    with pytest.raises(InputError, match="no conversation of the dataset has anything to train on"):
        plan([(50, 10, 2, 0)], [0], trained=np.array([0]))
    with pytest.raises(InputError, match="has anything to train on"):
        plan([(50, 10, 2, 0)], [0], origin=np.array([1]), weights=(1.0, 0.0))


def test_a_mixture_goes_on_where_the_epoch_before_stopped():
    """Four trees and, at half their weight, two of five chats per epoch: five epochs contain each chat twice."""
    sizes, owners = [(20, 10, 2, 0)] * 9, list(range(9))
    origin = np.array([0] * 4 + [1] * 5)
    made = plan(sizes, owners, batch=6, epochs=5, origin=origin, weights=(2.0, 1.0))
    used = [sorted(members(step)) for step in made.steps]
    assert len(used) == 5  # six conversations per epoch, one step
    assert all(step[:4] == [0, 1, 2, 3] and len(step) == 6 for step in used)
    assert sorted(chat for step in used for chat in step[4:]) == sorted([*range(4, 9)] * 2)


def test_batch_must_be_positive():
    with pytest.raises(InputError, match=r"config.batch: 0 must be at least 1"):
        plan([(1, 1, 1, 1)], [0], batch=0)


def test_what_does_not_fit_a_row_is_refused():
    with pytest.raises(InputError, match="fragment 1 needs"):
        plan([(1, 1, 1, 1), (101, 1, 1, 1)], [0, 1])
