import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_jax.data.plan import pack_plan
from aloe_jax.errors import InputError
from aloe_jax.tree.row import Capacity

CAPACITY = Capacity(tokens=100, targets=60, replies=10, pairs=8)
FRAGMENTS = st.lists(
    st.tuples(st.integers(1, 100), st.integers(1, 60), st.integers(1, 10), st.integers(0, 8), st.integers(0, 5)),
    min_size=1,
    max_size=20,
)


def plan(sizes, owners, **changes):
    settings = {"batch": 3, "unit": "conversations", "seed": 0, "epochs": 2} | changes
    return pack_plan(np.array(sizes), np.array(owners), CAPACITY, **settings)


@given(FRAGMENTS, st.integers(1, 7), st.integers(0, 3))
def test_every_fragment_once_an_epoch(fragments, batch, seed):
    sizes, owners = [row[:4] for row in fragments], [row[4] for row in fragments]
    made = plan(sizes, owners, batch=batch, seed=seed, epochs=1)
    used = [index for rows in made.steps for row in rows for index in row]
    assert sorted(used) == list(range(len(fragments)))
    for rows in made.steps:
        assert len({owners[index] for row in rows for index in row}) <= batch
        for row in rows:
            assert CAPACITY.holds(np.sum([sizes[index] for index in row], axis=0))


@given(FRAGMENTS, st.integers(1, 20))
def test_pairs_fill_a_step_up_to_the_batch(fragments, batch):
    sizes, owners = [row[:4] for row in fragments], [row[4] for row in fragments]
    if not sum(size[3] for size in sizes):
        with pytest.raises(InputError, match="no conversation of the dataset has any pairs"):
            plan(sizes, owners, unit="pairs", batch=batch)
        return
    for rows in plan(sizes, owners, unit="pairs", batch=batch, epochs=1).steps:
        members = [index for row in rows for index in row]
        assert sum(sizes[index][3] for index in members) <= batch or len({owners[index] for index in members}) == 1
        assert sum(sizes[index][3] for index in members) > 0


def test_same_arguments_same_plan_and_epochs_differ():
    sizes, owners = [(20, 10, 2, 1)] * 12, list(range(12))
    assert plan(sizes, owners) == plan(sizes, owners)
    assert plan(sizes, owners) != plan(sizes, owners, seed=1)
    first, second = np.array_split(np.array([str(step) for step in plan(sizes, owners).steps]), 2)
    assert set(first) != set(second)


def test_fill_and_rows():
    """Two conversations a step of 50 tokens each: one full row a step."""
    made = plan([(50, 10, 2, 1)] * 4, list(range(4)), batch=2, epochs=1)
    assert made.most_rows == 1
    assert made.fill(np.array([(50, 10, 2, 1)] * 4), CAPACITY) == 1.0


def test_batch_must_be_positive():
    with pytest.raises(InputError, match=r"config.batch: 0 must be at least 1"):
        plan([(1, 1, 1, 1)], [0], batch=0)
