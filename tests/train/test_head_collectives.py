"""The output head crosses the interconnect twice a step, however many chunks of targets go through it: its weight is
gathered before the loop over chunks, its gradient summed after it."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.train.forward import Compute
from aloe_jax.train.state import abstract_state, make_optimizer
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row, stack
from aloe_jax.tree.row import Capacity
from small_training import CONFIG
from tiny import MODEL

CHUNKS = 8


def compiled(model, mesh):
    """The text of a step over a row a chip, whose targets go through the head in eight chunks."""
    optimizer = make_optimizer(CONFIG, 3)
    rows = stack([stack([empty_row(Capacity(256, 16 * CHUNKS, 8, 8))] * 8)])
    place = row_sharding(mesh, leading=1)
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), rows)
    step = make_step(model, "dpo", CONFIG, Compute(chunk=16), optimizer, mesh)
    return step.lower(abstract_state(model, optimizer, mesh), rows, np.int32(1)).compile().as_text()


def collectives(text, kinds, shape):
    """The computations in which a collective of those kinds has an array of that shape, or its transpose."""
    sizes = "|".join(f"{a},{b}" for a, b in (shape, shape[::-1]))
    pattern, found, computation = re.compile(rf"= \(?.*f32\[(?:{sizes})\].* (?:{kinds})(?:-start)?\("), [], ""
    for line in text.splitlines():
        if not line.startswith(" "):
            computation = line.split(" ", 1)[0]
        elif pattern.search(line):
            found.append(computation)
    return found


@pytest.mark.parametrize(
    "shape",
    [
        {"fsdp": 4, "tensor": 2},
        pytest.param({"fsdp": 8}, marks=pytest.mark.slow),
        pytest.param({"replica": 2, "fsdp": 4}, marks=pytest.mark.slow),
    ],
)
def test_once_a_step(shape):
    """The vocabulary has no other size of the model, and its embedding, which is not the head, is read by rows."""
    model = dataclasses.replace(MODEL, tied=False)
    mesh = make_mesh(**shape)
    text = compiled(model, mesh)
    head = (model.dim, model.vocab // mesh.shape["tensor"])
    assert collectives(text, "all-gather", head) == ["ENTRY"]
    assert collectives(text, "all-reduce|reduce-scatter", head) == ["ENTRY"]
