"""What Google Cloud calls the slices of `plan/topology.py`, and how their chips are spread over hosts."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.plan.topology import Topology

SMALLEST_HOST = 4  # chips of a host in a slice of several hosts


@dataclass(frozen=True)
class Names:
    """Names of one chip. `largest_host` is the number of chips up to which a slice is a single machine."""

    runtime: str  # image of a TPU VM; a wrong one starts without the chips
    node: str  # value of GKE's node label for the accelerator
    machine: str  # Compute Engine's machine type, without the number of chips
    largest_host: int


# Images: https://docs.cloud.google.com/tpu/docs/runtimes. Nodes, machines and chips per host:
# https://docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
NAMES = {
    "v5e": Names("v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", "ct5lp-hightpu", 8),
    "v5p": Names("v2-alpha-tpuv5", "tpu-v5p-slice", "ct5p-hightpu", SMALLEST_HOST),
    "v6e": Names("v2-alpha-tpuv6e", "tpu-v6e-slice", "ct6e-standard", 8),
}


@dataclass(frozen=True)
class Slice:
    """A slice as the cloud offers it."""

    topology: Topology
    accelerator_type: str  # "v5litepod-16"
    names: Names
    hosts: int
    chips_per_host: int

    @property
    def shape(self) -> str:
        """As GKE writes it, "4x4"."""
        return "x".join(map(str, self.topology.shape))

    @property
    def machine_type(self) -> str:
        """The machine of each host, "ct5lp-hightpu-4t"."""
        return f"{self.names.machine}-{self.chips_per_host}t"


def slice_of(topology: Topology) -> Slice:
    """The slice of that topology. Raises InputError for a shape that the cloud does not offer by a number."""
    names, chips = NAMES[topology.chip.name], topology.chips
    kind = topology.accelerator_type
    per_host = chips if chips <= names.largest_host else SMALLEST_HOST
    return Slice(topology, kind, names, chips // per_host, per_host)
