"""The output head crosses the interconnect twice per micro-batch, however many chunks of targets go through it: its
weight is gathered before the loop over chunks, its gradient summed after it. So it is gathered once per step where a
batch fills one micro-batch. Runs are counted as `aloe plan` counts them, with the loops of the compiled module."""

import dataclasses
import importlib.util
from collections import Counter

import jax
import numpy as np
import pytest

from aloe_jax.parallel.mesh import MeshSettings, make_mesh
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.plan.compile import topology_mesh
from aloe_jax.plan.flags import DEFAULT, add_flags
from aloe_jax.plan.hlo import traffic_of
from aloe_jax.plan.topology import parse_topology
from aloe_jax.plan.tuning import flags_of
from aloe_jax.train.forward import Compute
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.settings import PreferenceSettings
from aloe_jax.train.state import abstract_state
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row, stack
from aloe_jax.tree.row import Capacity
from helpers.tiny import MODEL

CHUNKS = 8
UNTIED = dataclasses.replace(MODEL, tied=False)
TRAINING = PreferenceSettings(objective="dpo", turn_buckets=3)


def runs(mesh, micro_batches, dtype="float32"):
    """How often the head or its gradient goes into a collective of each kind, in a step over rows whose targets go
    through the head in eight chunks.

    The vocabulary has no other size of the model, and its embedding, which is not the head, is read by rows.
    """
    optimizer = make_optimizer(TRAINING, 3)
    rows = stack([stack([empty_row(Capacity(256, 16 * CHUNKS, 8, 8))] * mesh.size)] * micro_batches)
    place = row_sharding(mesh, leading=1)
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), rows)
    step = make_step(UNTIED, TRAINING, Compute(dtype, chunk=16), optimizer, mesh)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        module = step.lower(abstract_state(UNTIED, optimizer, mesh), rows, np.int32(1)).compile().as_text()
    head = sorted((UNTIED.dim, UNTIED.vocab // mesh.shape["tensor"]))
    found: Counter[str] = Counter()
    for one in traffic_of(module, micro_batches if micro_batches > 1 else None).collectives:
        if any(sorted(size for size in shape.sizes if size > 1) == head for shape in one.shapes):
            found[one.kind] += one.runs
    return found


def assert_once(found, micro_batches):
    """One sum per micro-batch, of either kind where each chip keeps a part; and at most one gather, which a compiler
    may move ahead of the loop over micro-batches."""
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
def test_once_a_micro_batch(shape, micro_batches):
    assert_once(runs(make_mesh(**shape), micro_batches), micro_batches)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu compiles ahead of time, on Linux only")
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_once_a_micro_batch_on_tpus(micro_batches):
    add_flags(flags_of(DEFAULT))
    mesh = topology_mesh(parse_topology("v5e:2x4"), MeshSettings(replica=1, fsdp=4, tensor=2))
    assert_once(runs(mesh, micro_batches, "bfloat16"), micro_batches)
