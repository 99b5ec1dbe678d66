"""The table of slices, against the names that Google's pages list."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.launch.slices import slice_of
from aloe_jax.plan.topology import parse_topology


@pytest.mark.parametrize(
    ("topology", "kind", "hosts", "per_host", "machine", "node"),
    [
        ("v5e:1x1", "v5litepod-1", 1, 1, "ct5lp-hightpu-1t", "tpu-v5-lite-podslice"),
        ("v5e:2x4", "v5litepod-8", 1, 8, "ct5lp-hightpu-8t", "tpu-v5-lite-podslice"),
        ("v5e:4x4", "v5litepod-16", 4, 4, "ct5lp-hightpu-4t", "tpu-v5-lite-podslice"),
        ("v5e:16x16", "v5litepod-256", 64, 4, "ct5lp-hightpu-4t", "tpu-v5-lite-podslice"),
        ("v5p:2x2x1", "v5p-8", 1, 4, "ct5p-hightpu-4t", "tpu-v5p-slice"),
        ("v5p:2x2x4", "v5p-32", 4, 4, "ct5p-hightpu-4t", "tpu-v5p-slice"),
        ("v6e:2x2", "v6e-4", 1, 4, "ct6e-standard-4t", "tpu-v6e-slice"),
        ("v6e:4x4", "v6e-16", 4, 4, "ct6e-standard-4t", "tpu-v6e-slice"),
    ],
)
def test_names_and_hosts(topology, kind, hosts, per_host, machine, node):
    found = slice_of(parse_topology(topology))
    assert (found.accelerator_type, found.hosts, found.chips_per_host) == (kind, hosts, per_host)
    assert (found.machine_type, found.names.node, found.shape) == (machine, node, topology.partition(":")[2])
    assert slice_of(parse_topology(kind)) == found  # the cloud's own name is understood


def test_a_shape_without_a_name():
    with pytest.raises(InputError, match="'v5e:4x2' is no usual slice of Cloud TPU; give a shape of 1x1, 2x2, 2x4"):
        slice_of(parse_topology("v5e:4x2"))
