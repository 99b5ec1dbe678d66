"""The machines of a job, as SkyPilot and GKE name them: the hosts of a TPU slice, or a host with GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.plan.topology import Topology, parse_topology

POD_HOST = 4  # chips of a host in a slice of several hosts
GKE_TPU, GKE_TOPOLOGY = "cloud.google.com/gke-tpu-accelerator", "cloud.google.com/gke-tpu-topology"
GKE_GPU = "cloud.google.com/gke-accelerator"


@dataclass(frozen=True)
class Machines:
    """Hosts of one kind."""

    name: str  # as on the command line, "v5e:4x4" or "L4:1"
    hosts: int
    accelerators: int  # chips or GPUs per host
    unit: str  # "chip" or "GPU"
    accelerator: str  # SkyPilot's name, "tpu-v5litepod-16"
    labels: Mapping[str, str]  # of GKE's nodes
    resource: str  # Kubernetes' name of a chip or GPU
    runtime: str = ""  # image of a TPU VM
    machine_type: str = ""  # Compute Engine's name of each TPU host, "ct5lp-hightpu-4t"
    shape: str = ""  # of a TPU slice, "4x4"

    @property
    def total(self) -> int:
        """Chips or GPUs of all hosts."""
        return self.hosts * self.accelerators

    @property
    def in_words(self) -> str:
        """As in "4 hosts of 4 chips"."""
        return f"{counted(self.hosts, 'host')} of {counted(self.accelerators, self.unit)}"


@dataclass(frozen=True)
class Names:
    """Names of one TPU chip."""

    runtime: str  # image of a TPU VM; with a wrong one the chips do not start
    node: str  # value of GKE's node label for the accelerator
    machine: str  # Compute Engine's machine type, without the number of chips
    vm: int  # chips up to which a slice is one TPU VM


# Images: https://cloud.google.com/tpu/docs/runtimes. Without one SkyPilot 0.14.1 takes that of v5p for v5e
# (sky/resources.py). Node labels, machine types and the chips of a GKE host: src/xpk/core/system_characteristics.py of
# https://github.com/AI-Hypercomputer/xpk and pkg/config/hardware.go of
# https://github.com/GoogleCloudPlatform/cluster-toolkit. Chips of a TPU VM: the chips' pages (parallel/chips.py).
TPUS = {
    "v5e": Names("v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", "ct5lp-hightpu", 8),
    "v5p": Names("v2-alpha-tpuv5", "tpu-v5p-slice", "ct5p-hightpu", POD_HOST),
    "v6e": Names("v2-alpha-tpuv6e", "tpu-v6e-slice", "ct6e-standard", 8),
}

# SkyPilot's names of GPUs with the value of GKE's node label: get_gke_accelerator_name in
# sky/provision/kubernetes/utils.py of SkyPilot 0.14.1.
GPUS = {
    "L4": "nvidia-l4",
    "A100": "nvidia-tesla-a100",
    "A100-80GB": "nvidia-a100-80gb",
    "H100": "nvidia-h100-80gb",
    "H200": "nvidia-h200-141gb",
    "B200": "nvidia-b200",
}
GPU_COUNTS = (1, 2, 4, 8)


def tpus(topology: Topology, on_gke: bool) -> Machines:
    """The hosts of a slice. On GKE 2x4 is two hosts, as xpk and `gcluster` take it; as a TPU VM it is one. Raises
    InputError for a shape that Cloud TPU has no accelerator type for."""
    names, kind, chips = TPUS[topology.chip.name], topology.accelerator_type, topology.chips
    per_host = chips if chips <= (POD_HOST if on_gke else names.vm) else POD_HOST
    shape = "x".join(map(str, topology.shape))
    return Machines(
        name=topology.name,
        hosts=chips // per_host,
        accelerators=per_host,
        unit="chip",
        accelerator=f"tpu-{kind}",
        labels={GKE_TPU: names.node, GKE_TOPOLOGY: shape},
        resource="google.com/tpu",
        runtime=names.runtime,
        machine_type=f"{names.machine}-{per_host}t",
        shape=shape,
    )


def server_machine(text: str, on_gke: bool) -> Machines:
    """The host of one model server: GPUs, `L4:1`, or a slice of one host. InputError for anything else."""
    gpu, _, count = text.partition(":")
    if gpu in GPUS:
        number = int(count or 1) if count.isdecimal() or not count else 0
        if number not in GPU_COUNTS:
            raise InputError(f"--topology: '{text}' must have {_or(GPU_COUNTS)} GPUs, as in {gpu}:1")
        return Machines(
            name=f"{gpu}:{number}",
            hosts=1,
            accelerators=number,
            unit="GPU",
            accelerator=f"{gpu}:{number}",
            labels={GKE_GPU: GPUS[gpu]},
            resource="nvidia.com/gpu",
        )
    try:
        topology = parse_topology(text)
    except InputError as error:
        raise InputError(f"{error}; with --servers also GPUs: {', '.join(GPUS)}, as in L4:1") from None
    found = tpus(topology, on_gke)
    if topology.chip.name == "v5p":  # https://docs.vllm.ai/projects/tpu lists v5e, v6e and v7x
        raise InputError(f"--topology: vLLM does not run on '{text}'; give v5e, v6e or GPUs with --servers")
    if found.hosts > 1:
        raise InputError(f"--topology: '{text}' has {found.hosts} hosts; a model server has one, as with v6e:2x2")
    return found


def counted(number: int, what: str) -> str:
    """As in "1 chip", "4 chips"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _or(values: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
