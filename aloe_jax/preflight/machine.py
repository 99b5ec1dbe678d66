"""Checks of one host that read files and the environment and need no library. Each yields a sentence per failure."""

from __future__ import annotations

import importlib.util
import resource
from collections.abc import Iterator

from aloe_jax.preflight.host import Host

OLDEST_PYTHON = (3, 11)
# Open files. A checkpoint has a file or more per parameter and process, written at once: with 96 layers the usual 1024
# are too few (google-research/t5x, issue 447). Four times that holds 96 layers x 9 parameters x 3 (with Adam's moments)
# = 2,592 arrays, and the connections of a run.
FEWEST_FILES, ENOUGH_FILES = 4096, 65536
LOCK = "/tmp/libtpu_lockfile"
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"


def python_version(host: Host) -> Iterator[str]:
    """Python is new enough; the images of TPU VMs may hold an old one."""
    if host.python < OLDEST_PYTHON:
        yield (
            f"Python {'.'.join(map(str, host.python))} is too old, 3.11 is the oldest that works; make an environment "
            "with a newer one: `uv venv --python=3.12 && uv sync`"
        )


def hidden_tpus(host: Host) -> Iterator[str]:
    """JAX is not kept from the TPUs whose device files are there: it would compute on the CPU without a word."""
    found = host.tpus()
    if not found:
        return
    platforms = host.environment.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms.split(","):
        yield (
            f"JAX_PLATFORMS={platforms} hides this host's TPUs ({', '.join(found)}), so JAX would compute elsewhere; "
            "`unset JAX_PLATFORMS`, or --config.hosts.preflight=warn for a run that is meant to"
        )
    if not importlib.util.find_spec("libtpu") and "TPU_LIBRARY_PATH" not in host.environment:
        yield (
            f"this host has TPUs ({', '.join(found)}) but no libtpu, so JAX would compute on the CPU; "
            "`pip install 'aloe_jax[tpu]'`, in the repository `uv sync --extra=tpu`"
        )


def lock_file(host: Host) -> Iterator[str]:
    """libtpu's lock file is free."""
    path = host.root / LOCK.lstrip("/")
    if not host.tpus() or not path.exists():
        return
    holders = list(host.holders(LOCK))
    for _, process, command in holders:
        yield f"{LOCK} is held by process {process} ({command}), which uses the TPUs; end it: `kill {process}`"
    if not holders and host.user not in (0, path.stat().st_uid):
        yield f"{LOCK} was left by another user and cannot be opened; `sudo rm {LOCK}`"


def busy_devices(host: Host) -> Iterator[str]:
    """No other process has the TPUs open. Those of other users are seen by root alone."""
    opened: dict[tuple[int, str], list[str]] = {}
    tpus = host.tpus()
    for device, process, command in host.holders(*tpus) if tpus else ():
        opened.setdefault((process, command), []).append(device)
    for (process, command), devices in sorted(opened.items()):
        yield (
            f"{', '.join(devices)} is open in process {process} ({command}), and a TPU serves one process at a time; "
            f"end it: `kill {process}`"
        )


def open_files(host: Host) -> Iterator[str]:
    """This process's limit of open files is raised as far as it may be, and enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    target = ENOUGH_FILES if hard == unlimited else min(hard, ENOUGH_FILES)
    if soft != unlimited and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    if target < FEWEST_FILES:
        yield (
            f"this process may open {target} files only, a run needs {FEWEST_FILES}; "
            f"`ulimit -Hn {ENOUGH_FILES}` as root, `docker run --ulimit nofile={ENOUGH_FILES}` for a container"
        )


def file_limit() -> int:
    """This process's limit of open files; -1 for none."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def huge_pages(host: Host) -> Iterator[str]:
    """Transparent huge pages are on where there are TPUs: JAX's `cloud_tpu_init.py` warns that the TPU runtime starts
    and ends slowly without."""
    path = host.root / _HUGE_PAGES.lstrip("/")
    if host.tpus() and path.exists() and "[always]" not in (found := path.read_text().strip()):
        yield (
            f"transparent huge pages are off ({found}), which slows the start and the end of the TPU runtime; "
            f'`sudo sh -c "echo always > {_HUGE_PAGES}"`'
        )
