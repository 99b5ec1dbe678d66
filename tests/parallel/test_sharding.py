import jax
import pytest
from jax.sharding import PartitionSpec

from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.parallel.mesh import make_mesh, row_shards
from aloe_jax.parallel.sharding import param_shardings, partition_spec, report
from tiny import MODEL


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


def test_report_counts_bytes_a_chip():
    abstract = decoder.abstract_params(MODEL)
    mesh = make_mesh(fsdp=4, tensor=2)
    text = report(abstract, param_shardings(abstract, decoder.logical_axes(MODEL), mesh))
    lines = text.splitlines()
    assert len(lines) == len(jax.tree.leaves(abstract)) + 1
    query = next(line for line in lines if line.startswith("layers.query"))
    assert f"{2 * 64 * 8 * 8 * 4 / 8 / 2**20:10.2f} MiB" in query
