"""The table of checks, and the two ways to make them: `aloe preflight`, and the start of a run of several hosts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from aloe_jax.errors import InputError
from aloe_jax.parallel.meeting import AUTO, HostSettings, group_arguments
from aloe_jax.plan.topology import Topology
from aloe_jax.preflight import environment, folders, machine, versions
from aloe_jax.preflight.comparison import compared
from aloe_jax.preflight.host import Host
from aloe_jax.preflight.roll_call import Group, roll_call

Say = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """A check of one host, and whether every run of several hosts begins with it: those in which nothing can go on."""

    name: str
    failures: Callable[[Host], Iterator[str]]
    always: bool = False


CHECKS = (
    Check("Python", machine.python_version, always=True),
    Check("packages", versions.pinned_packages, always=True),
    Check("hidden TPUs", machine.hidden_tpus),  # a run may be meant for the CPU
    Check("lock file", machine.lock_file, always=True),
    Check("busy devices", machine.busy_devices, always=True),
    Check("variables", environment.stale_variables, always=True),
    Check("open files", machine.open_files, always=True),
    Check("huge pages", machine.huge_pages),
    Check("space", machine.free_space),
    Check("folders", folders.probed_folders),
)


def preflight(
    host: Host, where: str, topology: Topology | None, seconds: float, say: Say, settings: HostSettings | None = None
) -> None:
    """Make all checks on this host or, with `where` as in `hosts.connect`, on all of them, and `say` what was found.
    InputError, after all failures were said, if there are any."""
    settings = settings or HostSettings()
    group = group_of(where, settings) if where else None
    checked = replace(host, processes=group.processes) if group else host
    failures = _before_devices(checked, group, CHECKS, seconds, say)
    if not failures:
        failures = _with_devices(checked, where, topology, settings, say)
    for failure in failures:
        say(f"failed: {failure}")
    if failures:
        several = f"{len(failures)} checks" if len(failures) > 1 else "a check"
        raise InputError(f"preflight: {several} failed; mend what is listed above and start it again on every host")
    say("ready")


def before_run(where: str, settings: HostSettings, say: Say) -> None:
    """Make the checks that need no device and cost nothing, before the hosts of a run connect. InputError with all
    failures."""
    group = group_of(where, settings)
    if group is None:  # JAX says it better
        return
    checks = [check for check in CHECKS if check.always]
    failures = _before_devices(Host(processes=group.processes), group, checks, settings.meet_seconds, say)
    for failure in failures[1:]:
        print(f"aloe: {failure}", file=sys.stderr)
    if failures:
        raise InputError(failures[0])


def group_of(where: str, settings: HostSettings) -> Group | None:
    """The processes of the run that `where` names, as JAX detects them for "auto"; None if it detects none."""
    if where != AUTO:
        given = group_arguments(where)
        host, _, port = str(given["coordinator_address"]).rpartition(":")
        return Group(host.strip("[]"), int(port), given["num_processes"], given["process_id"])
    from jax._src import distributed  # noqa: F401  # registers the clusters
    from jax._src.clusters import ClusterEnv

    if settings.port:
        os.environ.setdefault("JAX_COORDINATOR_PORT", str(settings.port))
    address, processes, number, _ = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, settings.meet_seconds
    )
    if address is None or processes is None or number is None:
        return None
    host, _, port = address.rpartition(":")
    return Group(host.strip("[]"), int(port), processes, number)


def _before_devices(host: Host, group: Group | None, checks: Iterable[Check], seconds: float, say: Say) -> list[str]:
    failures = [text for check in checks for text in check.failures(host)]
    if group is None or group.processes == 1:
        return failures
    report = {
        "name": os.uname().nodename,
        "failures": failures,
        "versions": versions.installed(),
        "environment": environment.watched(host.environment),
    }
    return roll_call(group, report, compared, seconds, say)


def _with_devices(host: Host, where: str, topology: Topology | None, settings: HostSettings, say: Say) -> list[str]:
    import jax

    from aloe_jax.parallel import hosts
    from aloe_jax.preflight import devices

    if where:
        hosts.connect(where, settings)
    kinds = [device.device_kind for device in jax.devices()]
    failures = [*devices.backend_failures(host, jax.default_backend())]
    failures += devices.topology_failures(host, topology, kinds)
    if not failures:
        total, seconds = devices.timed_collective()
        say(f"{len(kinds)} x {kinds[0]}, the sum over all of them takes {1e3 * seconds:.2f} ms")
        failures += devices.sum_failures(total, len(kinds))
    return failures
