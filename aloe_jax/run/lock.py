"""The lock of a run directory: one process works in it at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError

LOCK = ".lock"


@contextlib.contextmanager
def exclusive(workdir: epath.Path) -> Iterator[None]:
    """Hold the lock of the run directory, which is created if missing. The system releases it when the process ends, in
    whatever way. InputError if the directory is unusable or in use."""
    handle = _open_lock(workdir)
    try:
        yield
    finally:
        os.close(handle)


def _open_lock(workdir: epath.Path) -> int:
    if "://" in str(workdir):
        # Trees and metrics are appended line by line, which object stores cannot do.
        raise InputError(
            f"--workdir: '{workdir}' is in an object store, where a run cannot append; use a folder of this machine "
            "and copy the results"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = os.open(workdir / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        if files.disk_full(error):
            raise files.failed_write(workdir, error) from error
        raise InputError(
            f"--workdir: cannot use '{workdir}' ({error.strerror or error}); choose another folder"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"--workdir: another `aloe run` works in '{workdir}'; let it end, or choose another folder"
        ) from None
    return handle
