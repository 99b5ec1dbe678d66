"""The table of machines: every named topology once, against the names that public tables list."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.launch.machines import server_machine, tpus
from aloe_jax.plan.topology import parse_topology
from helpers.named_topologies import ROWS

NAMES = {
    "v5e": ("v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", "ct5lp-hightpu"),
    "v5p": ("v2-alpha-tpuv5", "tpu-v5p-slice", "ct5p-hightpu"),
    "v6e": ("v2-alpha-tpuv6e", "tpu-v6e-slice", "ct6e-standard"),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
@pytest.mark.parametrize("on_gke", [False, True])
def test_names_and_hosts(row, on_gke):
    topology, kind, *counts = row
    hosts, chips = map(int, counts[2:] if on_gke else counts[:2])
    chip, _, shape = topology.partition(":")
    runtime, node, machine = NAMES[chip]
    found = tpus(parse_topology(topology), on_gke)
    assert (found.hosts, found.accelerators, found.unit, found.resource) == (hosts, chips, "chip", "google.com/tpu")
    assert (found.accelerator, found.runtime, found.machine_type) == (f"tpu-{kind}", runtime, f"{machine}-{chips}t")
    assert found.labels == {"cloud.google.com/gke-tpu-accelerator": node, "cloud.google.com/gke-tpu-topology": shape}
    assert tpus(parse_topology(kind), on_gke) == found  # the cloud's own name is understood


def test_a_shape_without_a_name():
    with pytest.raises(InputError, match="'v5e:4x2' is no usual slice of Cloud TPU; give a shape of 1x1, 2x2, 2x4"):
        tpus(parse_topology("v5e:4x2"), on_gke=False)


def test_machines_of_model_servers():
    gpus = server_machine("A100-80GB:4", on_gke=True)
    assert (gpus.name, gpus.hosts, gpus.accelerators, gpus.resource) == ("A100-80GB:4", 1, 4, "nvidia.com/gpu")
    assert gpus.labels == {"cloud.google.com/gke-accelerator": "nvidia-a100-80gb"}
    assert server_machine("L4", on_gke=False).accelerator == "L4:1"
    assert server_machine("v6e-8", on_gke=False).accelerators == 8


@pytest.mark.parametrize(
    ("text", "on_gke", "sentence"),
    [
        ("T4:1", False, "'T4:1' is unknown.*with --servers also GPUs: L4, A100"),
        ("L4:3", False, "'L4:3' must have 1, 2, 4 or 8 GPUs"),
        ("L4:x", False, "'L4:x' must have 1, 2, 4 or 8 GPUs"),
        ("v6e:4x4", False, "has 4 hosts; a model server has one"),
        ("v6e:2x4", True, "has 2 hosts; a model server has one"),
        ("v5p:2x2x1", False, "vLLM does not run on 'v5p:2x2x1'"),
    ],
)
def test_no_machine_of_a_model_server(text, on_gke, sentence):
    with pytest.raises(InputError, match=sentence):
        server_machine(text, on_gke)
