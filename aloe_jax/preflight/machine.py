"""Checks of one host that read files and the environment and need no library. Each yields a sentence per failure."""

from __future__ import annotations

import importlib.util
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from aloe_jax.preflight.host import GIB, Host

OLDEST_PYTHON = (3, 11)
FEWEST_FILES, ENOUGH_FILES = 4096, 65536  # open files: below the first a run fails, above the second none needs more
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
            "`unset JAX_PLATFORMS`"
        )
    if not importlib.util.find_spec("libtpu") and "TPU_LIBRARY_PATH" not in host.environment:
        yield (
            f"this host has TPUs ({', '.join(found)}) but no libtpu, so JAX would compute on the CPU; "
            "`uv sync --extra=tpu` or `pip install 'aloe_jax[tpu]'`"
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
            f"{', '.join(devices)} is open in process {process} ({command}), and a TPU serves one process; "
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


def huge_pages(host: Host) -> Iterator[str]:
    """Transparent huge pages are on where there are TPUs: without them transfers to the chips are slow (JAX's
    `cloud_tpu_init.py` warns of it)."""
    path = host.root / _HUGE_PAGES.lstrip("/")
    if host.tpus() and path.exists() and "[always]" not in (found := path.read_text().strip()):
        yield (
            f"transparent huge pages are off ({found}), which slows transfers to the TPUs; "
            f'`sudo sh -c "echo always > {_HUGE_PAGES}"`'
        )


def free_space(host: Host) -> Iterator[str]:
    """There is space on /tmp, /dev/shm and the run directory."""
    remedies = {
        "/tmp": "`df -h /tmp`, and delete what is old, or point TMPDIR to a larger disk",
        "/dev/shm": "`sudo mount -o remount,size=8G /dev/shm`, or `docker run --shm-size=8g` for a container",
        "workdir": "delete old checkpoints, or attach a larger disk: `gcloud compute disks create`",
    }
    for name, needed in host.needed.items():
        if name == "workdir" and (not host.workdir or "://" in host.workdir):
            continue
        path = Path(host.workdir).absolute() if name == "workdir" else host.root / name.lstrip("/")
        if name != "workdir" and not path.exists():
            continue
        free = shutil.disk_usage(next(part for part in (path, *path.parents) if part.exists())).free
        if free < needed:
            shown = host.workdir if name == "workdir" else name
            yield f"{shown} has {free / GIB:.1f} GiB free, and needs {needed / GIB:.1f}; {remedies[name]}"
