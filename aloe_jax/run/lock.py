"""The lock of a run directory: one process works in it at a time. The lock's file says which."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epath
from pydantic import Field

from aloe_jax.errors import InputError, disk_full, failed_write
from aloe_jax.tree.schema import Record, parse

LOCK = ".lock"
LATEST = 1e11  # seconds since the epoch that a clock can show


class Holder(Record):
    """The process that works in a run directory. `born` tells it from a later process with the same number, where the
    system says so; `since` is in seconds since the epoch; `machine` tells hosts of one name apart, and containers."""

    process: int
    host: str
    born: str
    since: float = Field(ge=0, le=LATEST)
    machine: str = ""

    @property
    def here(self) -> bool:
        """Whether it is a process of this host."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool | None:
        """Whether it still runs; None for one of another host, which cannot be seen from here."""
        return _born(self.process) == self.born if self.here else None

    def named(self) -> str:
        """Its number, and its host if that is another one: "process 123 on tpu-0"."""
        return f"process {self.process}" + ("" if self.here else f" on {self.host}")


@contextlib.contextmanager
def exclusive(workdir: epath.Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of the run directory, which is created if missing, and yield a function that signs it: to be called
    when the work begins, since a call that is refused changes no file. The system releases the lock when the process
    ends, in whatever way. InputError if the directory is unusable or in use."""
    handle, signed = _open_lock(workdir), False

    def sign() -> None:
        nonlocal signed
        signed = True
        _write(handle, this_process().model_dump_json())

    try:
        yield sign
    finally:
        if signed:
            _write(handle, "")
        os.close(handle)


def _write(handle: int, text: str) -> None:
    """Replace what stands in the file; a full disk keeps no run from going on."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def holder(workdir: epath.PathLike) -> Holder | None:
    """The process that holds the lock, or was killed while it did; None if none has it."""
    try:
        return parse(Holder, (Path(workdir) / LOCK).read_text(), LOCK)
    except (OSError, UnicodeDecodeError, InputError):  # no run yet, between two runs, or damaged
        return None


def this_process() -> Holder:
    """This process, as the holder of a lock."""
    mine = os.getpid()
    return Holder(process=mine, host=socket.gethostname(), born=_born(mine), since=time.time(), machine=_this_machine())


def ended_here(sign: str) -> bool:
    """Whether a lock's content tells of a process of this very machine that has ended."""
    try:
        found = parse(Holder, sign, LOCK)
    except InputError:
        return False
    return bool(found.machine) and found.machine == _this_machine() and found.alive is False


def _this_machine() -> str:
    """What tells this machine since its start, and the container in it, from others; "" if the system does not say."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(process: int) -> str:
    """When a process began, as the system counts it; "" if there is none, "alive" if the system only tells that."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "alive"


def _open_lock(workdir: epath.Path) -> int:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = os.open(workdir / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        if disk_full(error):
            raise failed_write(workdir, error) from error
        raise InputError(
            f"--workdir: cannot use '{workdir}' ({error.strerror or error}); choose another folder"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        found = holder(workdir)
        who = "" if found is None else f" ({found.named()}; `aloe status` shows how far it is)"
        raise InputError(
            f"--workdir: another `aloe run` works in '{workdir}'{who}; let it end, or choose another folder"
        ) from None
    return handle
