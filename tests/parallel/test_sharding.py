"""Meshes, the sharding table, and tensors that do not divide."""

import jax
import pytest
from jax.sharding import PartitionSpec

from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.parallel.mesh import make_mesh, row_shards
from aloe_jax.parallel.sharding import bytes_per_chip, param_shardings, partition_spec, placed, table
from helpers.tiny import MODEL


def test_meshes():
    assert dict(make_mesh().shape) == {"replica": 1, "fsdp": 8, "tensor": 1}
    assert dict(make_mesh(replica=2, tensor=2).shape) == {"replica": 2, "fsdp": 2, "tensor": 2}
    assert row_shards(make_mesh(replica=2, tensor=2)) == 4


@pytest.mark.parametrize("sizes", [(1, 3, 1), (1, -1, 3), (-1, -1, 1), (0, 8, 1), (1, 4, 1)])
def test_meshes_that_do_not_fit(sizes):
    with pytest.raises(InputError, match=r"config\.mesh"):
        make_mesh(*sizes)


def test_specs_follow_the_table():
    mesh = make_mesh(fsdp=4, tensor=2)
    shardings = param_shardings(decoder.abstract_params(MODEL), decoder.logical_axes(MODEL), mesh)
    assert shardings["embed"].spec == PartitionSpec("tensor", "fsdp")
    assert shardings["layers"]["query"].spec == PartitionSpec(None, "fsdp", "tensor", None)
    assert shardings["layers"]["down"].spec == PartitionSpec(None, "tensor", "fsdp")
    assert shardings["final_norm"].spec == PartitionSpec(None)


def test_large_tensor_that_does_not_divide_is_an_error():
    mesh = make_mesh(fsdp=1, tensor=8)
    small = partition_spec("query", (64, 9, 8), ("embed", "heads", "head_dim"), mesh)
    assert small == PartitionSpec(None, None, None)
    with pytest.raises(InputError, match=r"config\.mesh\.tensor: 8 does not divide axis 'heads' of query \(9 in"):
        partition_spec("query", (4096, 9, 128), ("embed", "heads", "head_dim"), mesh)


def test_the_table_tells_axes_and_bytes_a_chip():
    """A layer's query weights are 64 x 8 x 8 floats, an eighth of them on each chip; norms are whole everywhere."""
    abstract = decoder.abstract_params(MODEL)
    placed_ = placed(abstract, decoder.shardings(MODEL, make_mesh(fsdp=4, tensor=2)))
    lines = table({"parameters": placed_, "optimiser": {"mu": placed_, "nu": placed_}}, ["parameters"]).splitlines()
    assert len(lines) == 1 + len(jax.tree.leaves(abstract)) + 2
    query = next(line for line in lines if line.startswith("layers.query"))
    size = f"{2 * 64 * 8 * 8 * 4 / 8 / 2**20:.2f}"
    assert " ".join(query.split()) == f"layers.query 2 x 64 x 8 x 8 - x fsdp x tensor x - {size}"
    assert [line.split()[0] for line in lines if line.endswith("whole on every chip")] == [
        "final_norm",
        "layers.attention_norm",
        "layers.mlp_norm",
    ]
    total = sum(leaf.size for leaf in jax.tree.leaves(abstract)) * 4
    norms = sum(leaf.size for name, leaf in jax.tree.leaves_with_path(abstract) if "norm" in str(name)) * 4
    chip = (total - norms) / 8 + norms
    assert bytes_per_chip(placed_) == chip
    assert [line.split()[-1] for line in lines[-2:]] == [f"{chip / 2**20:.2f}", f"{2 * chip / 2**20:.2f}"]
