"""Checks that need JAX's devices: are those of the slice there, and can all of them compute together?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aloe_jax.plan.topology import Topology
from aloe_jax.preflight.host import Host


def backend_failures(host: Host, backend: str) -> Iterator[str]:
    """A sentence if there are TPUs and JAX's default `backend` is not theirs."""
    if (found := host.tpus()) and backend != "tpu":
        yield (
            f"this host has TPUs ({', '.join(found)}) and JAX uses {backend}; `python -c 'import jax; "
            'jax.devices("tpu")\'` says why, and `uv sync --extra=tpu` installs the libtpu that fits'
        )


def topology_failures(host: Host, topology: Topology | None, kinds: list[str]) -> Iterator[str]:
    """A sentence if the devices, given by JAX's names of their kinds, are not those of the slice."""
    if topology is None:
        return
    fitting = sum(kind in topology.chip.kinds for kind in kinds)
    if fitting == len(kinds) == topology.chips:
        return
    found = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds))) or "none"
    if not host.tpus():
        remedy = "the VM has no TPU device file: create it with a TPU image, `--version=v2-alpha-tpuv6e` for v6e"
    else:
        remedy = "start `aloe preflight --distributed` on all hosts of the slice, or give the slice that is there"
    wanted = f"{topology.chips} devices ({topology.chip.kinds[0]})"
    yield f"--topology: {topology.name} has {wanted}, found {found}; {remedy}"


def timed_collective() -> tuple[float, float]:
    """The sum over all devices of one number each, which is their count, and the seconds of the second call."""
    devices = jax.devices()
    mesh = Mesh(devices, ("all",), axis_types=(jax.sharding.AxisType.Auto,))
    ones = jax.make_array_from_callback(
        (len(devices),), NamedSharding(mesh, PartitionSpec("all")), lambda index: jnp.ones(1)
    )
    total = jax.jit(
        jax.shard_map(
            lambda x: jax.lax.psum(x, "all"), mesh=mesh, in_specs=PartitionSpec("all"), out_specs=PartitionSpec()
        )
    )
    total(ones).block_until_ready()  # compiles
    start = time.perf_counter()
    found = total(ones).block_until_ready()
    return float(found.addressable_data(0)[0]), time.perf_counter() - start


def sum_failures(total: float, devices: int) -> Iterator[str]:
    """A sentence if the sum over all devices is not their number."""
    if total != devices:
        yield (
            f"the sum over {devices} devices is {total:g}, a chip or a link computes wrongly; recreate the slice, and "
            "report it to Google Cloud"
        )
