"""Copies of runs in buckets for those who only read: the other processes of a run, and commands such as `aloe status`.

They need no lease. What they get is the state of one moment, of at most `config.bucket.upload_seconds` ago.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from aloe_jax import files
from aloe_jax.bucket.fetch import fetch
from aloe_jax.bucket.lease import read_lease
from aloe_jax.bucket.places import MARKER, SCHEME, in_bucket, local_copy, url_of
from aloe_jax.bucket.snapshot import SNAPSHOT, read_snapshot
from aloe_jax.bucket.store import Store, forget_listings
from aloe_jax.errors import InputError, ResumableError

STATE = ".parts.json"  # in the copy: the parts of each file that was downloaded
LOCK = ".lock"  # of the copy, which shows the holder of the lease as that of a local run (run/lock.py)
TRAININGS, CHECKPOINTS = ("sft", "preference"), "checkpoints"  # folders of a run and of a training
TRIES = 5  # to download the files of a snapshot that is replaced meanwhile
Wanted = Callable[[str], bool]  # of a file's path relative to the run directory


def refresh(store: Store, root: Path, wanted: Wanted) -> None:
    """Bring the `wanted` files in the folder `root` to their state in the bucket; others stay as they are."""
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_text(store.url)
    for _ in range(TRIES):
        snapshot, _ = read_snapshot(store)
        before = _state(root)
        parts = {name: [part.name for part in parts] for name, parts in snapshot.files.items() if wanted(name)}
        new = {name for name, found in parts.items() if before.get(name) != found or not (root / name).exists()}
        try:
            fetch(store, snapshot, root, new.__contains__)
        except FileNotFoundError:
            continue
        for name in before:
            if name not in snapshot.files:
                (root / name).unlink(missing_ok=True)
        kept = {name: found for name, found in before.items() if name in snapshot.files}
        files.write_text(root / STATE, json.dumps(kept | parts))
        return
    raise ResumableError(f"'{store.url}' changes faster than it can be read; run the same command again")


def readable(path: str, wanted: Wanted = lambda name: True) -> str:
    """A path on this machine with what is at `path`: the path itself, or for a run in a bucket, or a folder or file of
    one, that in a copy, after the `wanted` files, and of a folder or file those in it, were downloaded.

    Raises InputError if there is no run.
    """
    if not in_bucket(path):
        return path
    url = url_of(path)
    store, inside = _run_around(url)
    root = local_copy(store.url, "read")
    refresh(store, root, lambda name: wanted(name) and _within(name, inside))
    lease = read_lease(store)
    (root / LOCK).write_text("" if lease is None or lease[0].released else lease[0].sign)
    return str(root / inside)


def light(name: str) -> bool:
    """Whether a file has neither weights nor the rows of a data set, which no report, comparison or page shows."""
    return not name.endswith(".safetensors") and ".array_record" not in name


def readable_training(source: str) -> str:
    """`readable`, if `source` is a training of a run in a bucket, whose checkpoints are read there; another source as
    it is."""
    named = PurePosixPath(source).name in (*TRAININGS, CHECKPOINTS)
    return readable(source, light) if named and in_bucket(source) else source


def _within(name: str, inside: str) -> bool:
    """Whether a file is in the folder, or is the file, `inside`; manifests and configs, which say what it is, count."""
    return (
        not inside
        or name == inside
        or name.startswith(f"{inside}/")
        or PurePosixPath(name).name in ("manifest.json", "config.json")
    )


def _run_around(url: str) -> tuple[Store, str]:
    """The run directory that `url` is or lies in, and where in it. InputError if there is none."""
    forget_listings()
    bucket, *parts = url.removeprefix(SCHEME).split("/")
    for count in range(len(parts), 0, -1):
        store = Store(f"{SCHEME}{bucket}/{'/'.join(parts[:count])}")
        if store.read(SNAPSHOT) is not None:
            return store, "/".join(parts[count:])
    raise InputError(f"'{url}' is no run directory of `aloe run` in a bucket, and lies in none; name its --workdir")


def _state(root: Path) -> dict[str, Sequence[str]]:
    with contextlib.suppress(InputError):
        found: dict[str, Sequence[str]] = files.read_object(root / STATE)
        return found
    return {}
