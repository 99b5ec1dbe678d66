"""The output head crosses the interconnect twice per micro-batch, whatever the number of chunks of targets: its weight
is gathered before the loop over chunks, and its gradient is reduced after it. So it is gathered once per step if a
batch fills one micro-batch. Runs are counted as in `aloe plan`, from the loops of the compiled module."""

import dataclasses
import importlib.util
from collections import Counter

import jax
import numpy as np
import pytest

from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.plan.compile import topology_mesh
from aloe_jax.plan.hlo import parse, traffic
from aloe_jax.plan.topology import parse_topology
from aloe_jax.train.forward import Compute
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.state import abstract_state
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row, stack
from aloe_jax.tree.row import Capacity
from helpers.small_training import SETTINGS
from helpers.tiny import MODEL

CHUNKS = 8
UNTIED = dataclasses.replace(MODEL, tied=False)


def runs(mesh, micro_batches, dtype="float32"):
    """How often a collective of each kind runs on the head or its gradient, in a step over rows whose targets go
    through the head in eight chunks.

    No other dimension of the model equals the vocabulary, and the embedding, which is not tied to the head, is read by
    rows.
    """
    optimizer = make_optimizer(SETTINGS, 3)
    rows = stack([stack([empty_row(Capacity(256, 16 * CHUNKS, 8, 8))] * mesh.size)] * micro_batches)
    place = row_sharding(mesh, leading=1)
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), rows)
    step = make_step(UNTIED, SETTINGS, Compute(dtype, chunk=16), optimizer, mesh)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        module = step.lower(abstract_state(UNTIED, optimizer, mesh), rows, np.int32(1)).compile().as_text()
    head = sorted((UNTIED.dim, UNTIED.vocab // mesh.shape["tensor"]))
    found: Counter[str] = Counter()
    for one in traffic(parse(module), micro_batches if micro_batches > 1 else None).collectives:
        if any(sorted(size for size in shape.sizes if size > 1) == head for shape in one.shapes):
            found[one.kind] += one.runs
    return found


def assert_once(found, micro_batches):
    """One reduction per micro-batch, of either kind if each chip keeps a part; and at most one gather, which a compiler
    may move out of the loop over micro-batches."""
    assert found.pop("all-gather") in (1, micro_batches)
    assert sum(found.values()) == micro_batches
    assert found.keys() <= {"all-reduce", "reduce-scatter"}


@pytest.mark.parametrize(
    ("shape", "micro_batches"),
    [
        ({"fsdp": 4, "tensor": 2}, 1),
        pytest.param({"fsdp": 4, "tensor": 2}, 2, marks=pytest.mark.slow),
        pytest.param({"fsdp": 8}, 1, marks=pytest.mark.slow),
        pytest.param({"replica": 2, "fsdp": 4}, 1, marks=pytest.mark.slow),
    ],
)
def test_once_per_micro_batch(shape, micro_batches):
    assert_once(runs(make_mesh(**shape), micro_batches), micro_batches)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu compiles ahead of time, on Linux only")
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_once_per_micro_batch_on_tpus(micro_batches):
    mesh = topology_mesh(parse_topology("v5e:2x4"), {"replica": 1, "fsdp": 4, "tensor": 2})
    assert_once(runs(mesh, micro_batches, "bfloat16"), micro_batches)
