"""A run whose directory is in a bucket: the lease, the local copy and its uploads around the stages (bucket/)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

import jax
from etils import epath

from aloe_jax.bucket.lease import acquire
from aloe_jax.bucket.mirror import Mirror
from aloe_jax.bucket.places import in_bucket, local_copy, url_of
from aloe_jax.bucket.reading import refresh
from aloe_jax.bucket.settings import BucketSettings
from aloe_jax.bucket.store import Store, forget_listings
from aloe_jax.errors import InputError, ResumableError
from aloe_jax.parallel import hosts
from aloe_jax.run.lock import ended_here, exclusive, this_process
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run

T = TypeVar("T")
COMPILED = "compiled"  # the folder of compiled programs in a run directory


def folder_of(workdir: str, bucket: object) -> epath.Path:
    """The folder that a run works in: `workdir` itself or, if that is in a bucket, the local copy of this process.
    `bucket` is `config.bucket`, if the config has one."""
    if not in_bucket(workdir):
        return epath.Path(workdir)
    kind = "run" if hosts.is_primary() else f"process-{hosts.process_index()}"
    return epath.Path(local_copy(url_of(workdir), kind, _settings(bucket).staging))


@contextlib.contextmanager
def working(workdir: str, run: Run) -> Iterator[Run]:
    """The run with what keeps it in a bucket, if `workdir` is in one: the primary process takes the lease, makes the
    local copy, and uploads it for the last time at the end. `run.workdir` is that of `folder_of`.

    Raises InputError if another process works there, and ResumableError if the bucket cannot be reached.
    """
    if not in_bucket(workdir):
        yield run
        return
    url, settings, root = url_of(workdir), _settings(run.settings.get("bucket")), Path(run.workdir)
    forget_listings()
    store = Store(url)
    if not jax.config.jax_compilation_cache_dir and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", f"{url}/{COMPILED}")
    if not hosts.is_primary():
        hosts.wait_for_primary()  # which may have to wait for the lease
        yield dataclasses.replace(run, refresh=lambda: refresh(store, root, _needed_everywhere))
        return
    holder = this_process()
    sign, who = holder.model_dump_json(), f"process {holder.process} on {holder.host}"
    lease = acquire(store, who, sign, settings.lease_seconds, run.progress.line, _end, ended_here)
    try:
        with exclusive(epath.Path(root.parent)):  # a process that lost its lease may not have ended yet
            mirror = Mirror(store, lease, root, settings)
            size = mirror.restore()
            run.progress.line(f"'{url}': working in '{root}', {size / 1e6:,.1f} MB downloaded")
            hosts.broadcast_from_primary(0)
            try:
                yield dataclasses.replace(run, mirror=mirror)
            except BaseException:
                with contextlib.suppress(InputError, ResumableError):  # the first error says more
                    mirror.close()
                raise
            mirror.close()
    finally:
        lease.release()


def write_run(url: str, write: Callable[[str], T]) -> T:
    """Put a new run into the bucket: `write` makes it in the local folder whose path it is given. Returns what `write`
    does. Raises InputError if there is anything at `url`."""
    folder = Path(folder_of(url, None))
    with working(url, Run(epath.Path(folder), {}, Progress())) as run:
        assert run.mirror is not None
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(f"--out: '{url}' is not empty; give another place")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            result = write(f"{scratch}/run")
            for path in Path(scratch, "run").iterdir():
                shutil.move(path, folder / path.name)
        for path in folder.iterdir():
            if path.is_dir():
                run.mirror.finish(path.name)
    return result


def _settings(found: object) -> BucketSettings:
    """`config.bucket`; the defaults for a config from before there was one."""
    return found if isinstance(found, BucketSettings) else BucketSettings()


def _needed_everywhere(name: str) -> bool:
    """Whether all processes read a file: the data set, and the manifests."""
    path = PurePosixPath(name)
    return path.parts[0] == "dataset" or path.name == "manifest.json"


def _end(sentence: str) -> NoReturn:
    """End this process, and all others of the run, from the thread that lost the lease: whatever it went on to write
    would be in the way of the process that has it now."""
    print(f"\naloe: {sentence}", file=sys.stderr, flush=True)
    hosts.leave(ResumableError.exit_code, sentence)
