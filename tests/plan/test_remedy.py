"""What a plan that does not fit advises: nothing that would not help."""

from types import SimpleNamespace

import pytest

from aloe_jax.plan.records import Memory
from aloe_jax.plan.remedy import remedy

GIB = 2**30


def plan(state, beside, training=True, **mesh):
    """A plan with that many GiB of parameters and moments, and beside them, of 16."""
    memory = Memory(state * GIB / 3, state * GIB * 2 / 3, beside * GIB, (state + beside) * GIB, 16 * GIB)
    axes = {"replica": 1, "fsdp": 4, "tensor": 1} | mesh
    return SimpleNamespace(programs=[SimpleNamespace(memory=memory)], training=training or None, online=None, mesh=axes)


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_larger_slice_only_where_it_helps(training, searched):
    """20 GiB of a training over four chips are 10 over eight. 20 GiB of one row stay 20, but are 10 on two chips
    of a tensor axis; so are the weights of decoding, which are whole over the other axes."""
    axis = "config.mesh.tensor" if training else "config.decode.mesh.tensor"
    state = remedy(plan(20, 4, training), searched)
    assert ("take a larger slice" if training else f"a larger {axis}, now 1") in state
    row = remedy(plan(4, 20, training), searched)
    assert "take a larger slice" not in row
    assert "20.0 GiB per chip on a larger slice too" in row
    assert f"a larger {axis}, now 1" in row
    assert ("config.dataset.row.tokens" if training else "config.serve.slots") in row


def test_copies_are_not_split_by_more_chips():
    found = remedy(plan(20, 4, replica=2), False)
    assert "lower config.mesh.replica, now 2" in found
    assert "larger slice" not in found
