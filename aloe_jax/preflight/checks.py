"""The table of checks of one host, which need no device."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aloe_jax.preflight import environment, folders, machine, space, versions
from aloe_jax.preflight.host import Host
from aloe_jax.preflight.rows import NOTHING, OK, Row

_NO_TPU = "no TPU on this host"


@dataclass(frozen=True)
class Check:
    """A check of one host.

    Attributes:
        name: of its row.
        failures: a sentence per failure.
        found: what was found where nothing failed; empty if there is nothing to check on this host.
        without: why there is nothing to check.
        stops: whether a run cannot go on with a failure, or only badly.
        writes: whether it writes a file.
    """

    name: str
    failures: Callable[[Host], Iterator[str]]
    found: Callable[[Host], str]
    without: str = ""
    stops: bool = True
    writes: bool = False

    def row(self, host: Host) -> Row:
        """Make the check."""
        failures = tuple(self.failures(host))
        found = "" if failures else self.found(host)
        return Row(self.name, found or self.without, failures, OK if found or failures else NOTHING)


def _free(name: str) -> Callable[[Host], str]:
    def found(host: Host) -> str:
        size = space.free_bytes(host.root / name.lstrip("/"))
        return "" if size is None else f"{space.amount(size)} free"

    return found


def _run_space(host: Host) -> str:
    size = space.free_bytes(space.run_folder(host)) if host.workdir else None
    return "" if size is None else f"{space.amount(size)} free"


def _on_tpus(text: str) -> Callable[[Host], str]:
    return lambda host: text if host.tpus() else ""


CHECKS = (
    Check("Python", machine.python_version, lambda host: platform.python_version()),
    Check("packages", versions.pinned_packages, versions.in_words),
    Check("TPUs", machine.hidden_tpus, lambda host: ", ".join(host.tpus()), "no device file; JAX computes elsewhere"),
    Check("lock file", machine.lock_file, _on_tpus("free"), _NO_TPU),
    Check("busy devices", machine.busy_devices, _on_tpus("no other process of this user has them open"), _NO_TPU),
    Check("variables", environment.stale_variables, environment.in_words, "no MEGASCALE_* or TPU_WORKER_* is set"),
    Check("open files", machine.open_files, lambda host: f"limit {machine.file_limit()}"),
    Check("huge pages", machine.huge_pages, _on_tpus("on"), _NO_TPU, stops=False),
    Check("/tmp", space.temporary_space, _free("/tmp"), "not there", stops=False),
    Check("/dev/shm", space.shared_memory, _free("/dev/shm"), "not there", stops=False),
    Check("run's space", space.run_space, _run_space, "give --workdir to check it", stops=False),
    Check(
        "run directory",
        folders.probed_workdir,
        lambda host: folders.used_as(host.workdir),
        "give --workdir to check it",
        writes=True,
    ),
    Check(
        "compiled cache",
        folders.probed_cache,
        lambda host: folders.used_as(host.compilation_cache),
        "give --cache-dir to check it",
        writes=True,
    ),
)
