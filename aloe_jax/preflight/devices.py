"""Checks that need JAX's devices: are those of the slice there, and can all of them compute together?"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aloe_jax.errors import InputError
from aloe_jax.plan.topology import Topology
from aloe_jax.preflight.host import Host
from aloe_jax.preflight.rows import Row

CALLS = 5  # of the collective that is timed


def device_rows(host: Host, topology: Topology | None, seconds: float) -> Iterator[Row]:
    """The rows that touch the devices of the run; the sum over all of them only if those before are good.

    A runtime that does not answer in that many seconds ends this process with a sentence.
    """
    with _ending_after(seconds):
        try:
            devices = jax.devices()
        except Exception as error:  # RuntimeError of a runtime that fails, AssertionError where JAX finds none
            yield Row("devices", failures=(_not_started(host, str(error) or "there is none"),))
            return
        kinds = [device.device_kind for device in devices]
        counted = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds)))
        failures = (*backend_failures(host, jax.default_backend()), *topology_failures(host, topology, kinds))
        yield Row("devices", f"{counted}, as {topology.name}" if topology else counted, failures)
        if failures:
            return
        total, took = timed_collective()
        found = f"the sum over all {len(kinds)} takes {1e3 * took:.2f} ms"
        yield Row("collective", found, tuple(sum_failures(total, len(kinds))))


def backend_failures(host: Host, backend: str) -> Iterator[str]:
    """A sentence if there are TPUs and JAX's default `backend` is not theirs."""
    if (found := host.tpus()) and backend != "tpu":
        yield (
            f"this host has TPUs ({', '.join(found)}) and JAX computes on {backend}; `python -c 'import jax; "
            'jax.devices("tpu")\'` says why, and `pip install -U "jax[tpu]"` installs the libtpu that fits'
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
        remedy = (
            "this VM has no TPU device file: `gcloud compute tpus tpu-vm create NAME --zone=ZONE "
            "--accelerator-type=TYPE --version=IMAGE` makes one, with the image of the chip (docs/preflight.md)"
        )
    elif fitting:
        remedy = (
            "`aloe preflight --distributed` on all hosts of the slice sees all of it, or give the slice that is there"
        )
    else:
        remedy = "give the slice that is there"
    wanted = f"{topology.chips} devices ({topology.chip.kinds[0]})"
    yield f"{topology.name} has {wanted}, found {found}; {remedy}"


def timed_collective() -> tuple[float, float]:
    """The sum over all devices of one number each, which is their count, and the seconds that it takes at best."""
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
    found, best = total(ones).block_until_ready(), float("inf")  # compiles
    for _ in range(CALLS):
        start = time.perf_counter()
        found = total(ones).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return float(found.addressable_data(0)[0]), best


def sum_failures(total: float, devices: int) -> Iterator[str]:
    """A sentence if the sum over all devices is not their number."""
    if total != devices:
        yield (
            f"the sum of a one from each of {devices} devices is {total:g}, so a chip or a link computes wrongly; "
            "recreate the slice: `gcloud compute tpus tpu-vm delete NAME --zone=ZONE`, and `create` again"
        )


def _not_started(host: Host, error: str) -> str:
    files = " ".join(host.tpus()) or "/dev/accel*"
    reason = " ".join(error.split())[:200]
    return (
        f"JAX cannot start its devices ({reason}); `sudo lsof -w {files}` names a process that holds a TPU, and "
        "`unset JAX_PLATFORMS` lets JAX take what is there"
    )


@contextmanager
def _ending_after(seconds: float) -> Iterator[None]:
    """End this process with a sentence if the block takes longer: no exception reaches a runtime that waits."""

    def end() -> None:
        print(
            f"aloe: the devices did not answer within {seconds:g} seconds; `sudo lsof -w /dev/vfio/* /dev/accel*` on "
            "each host names a process that holds a TPU, and `sudo reboot` frees one that hangs",
            file=sys.stderr,
            flush=True,
        )
        os._exit(InputError.exit_code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
