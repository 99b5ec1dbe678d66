"""Free space where a run writes beside its results: each minimum with its arithmetic."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from aloe_jax.hub.folders import cache_root
from aloe_jax.parallel.chips import GIB
from aloe_jax.preflight.host import Host

MIB = 2**20
# libtpu writes logs to /tmp/tpu_logs, which have filled disks (marin-community/marin, pull request 2078). The logging
# library lets a file grow to 1,800 MiB (google/glog, `max_log_size`), which is a file and a bit. Else scratch files.
TMP_WITH_TPUS, TMP = 2 * GIB, 64 * MIB
# Several GPUs exchange data through it, and crash in the 64 MiB that Docker gives (NVIDIA/JAX-Toolbox, issue 183, which
# asks for 1 GiB). Else semaphores of Python and others, a page of 4 KiB each: 4,096 of them.
SHM_WITH_GPUS, SHM = GIB, 16 * MIB
# The local copy of a run in a bucket, of the paper's size: 200,000 calls of 3 kB and 3,000 trees of 60 kB are 0.8 GB.
STAGED = GIB


def temporary_space(host: Host) -> Iterator[str]:
    """There is space for logs and scratch files on /tmp."""
    least = TMP_WITH_TPUS if host.tpus() else TMP
    remedy = "`du -xh /tmp | sort -h | tail` names what to delete; TPU_LOG_DIR=disabled keeps libtpu from logging there"
    yield from _too_little("/tmp", free_bytes(host.root / "tmp"), least, remedy)


def shared_memory(host: Host) -> Iterator[str]:
    """There is space in /dev/shm, the memory that processes share."""
    remedy = "`sudo mount -o remount,size=8G /dev/shm`, or `docker run --shm-size=8g` for a container"
    least = SHM_WITH_GPUS if host.has_gpu() else SHM
    yield from _too_little("/dev/shm", free_bytes(host.root / "dev/shm"), least, remedy)


def run_space(host: Host) -> Iterator[str]:
    """There is space for the run directory, or for the local copy of one in a bucket."""
    if not host.workdir:
        return
    folder = run_folder(host)
    if "://" in host.workdir:
        least, remedy = STAGED, f"set ALOE_CACHE to a folder on a larger disk, `df -h` lists them, or empty {folder}"
    else:
        least = int(host.space * GIB)
        remedy = "`df -h` lists larger disks for --workdir, or `du -xh DIR | sort -h | tail` what to delete on this one"
    yield from _too_little(str(folder), free_bytes(folder), least, remedy)


def run_folder(host: Host) -> Path:
    """The local folder that a run with this --workdir writes to."""
    return cache_root() if "://" in host.workdir else Path(host.workdir).absolute()


def free_bytes(folder: Path) -> int | None:
    """Free bytes on the disk that `folder` is on or would be made on; None if there is no folder above it."""
    above = next((part for part in (folder, *folder.parents) if part.exists()), None)
    return None if above is None else shutil.disk_usage(above).free


def amount(size: int) -> str:
    """Bytes in words."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def _too_little(name: str, free: int | None, least: int, remedy: str) -> Iterator[str]:
    if free is not None and free < least:
        yield f"{name} has {amount(free)} free, and needs {amount(least)}; {remedy}"
