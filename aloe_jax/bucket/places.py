"""Where a run in a bucket is on this machine, and where in the bucket a file of its local copy is."""

from __future__ import annotations

import os
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.folders import cache_root

SCHEME = "gs://"
MARKER = ".bucket"  # at the top of a local copy: the URL of the run directory
RECORDS = ".aloe"  # a folder of the run directory with what is ours alone: lease, snapshot and the files' parts


def in_bucket(path: epath.PathLike) -> bool:
    """Whether `path` is the URL of a place in a bucket."""
    return os.fspath(path).startswith(SCHEME)


def url_of(path: epath.PathLike) -> str:
    """The URL without a slash at its end. InputError if it names no folder in a bucket."""
    url = os.fspath(path).rstrip("/")
    bucket, _, name = url.removeprefix(SCHEME).partition("/")
    if not bucket or not name:
        raise InputError(f"'{path}' is no folder in a bucket; expected {SCHEME}BUCKET/DIR")
    return url


def local_copy(url: str, kind: str, root: str = "") -> Path:
    """The folder for the local copy of a run directory, always the same one: below `root`, by default the cache. `kind`
    tells the copies of processes on one machine apart. Its name is that of the run directory, for comparisons."""
    above = Path(root).expanduser() if root else cache_root() / "buckets"
    return above / files.sha256(url)[:16] / kind / url.rpartition("/")[2]


def stored_at(path: epath.PathLike) -> epath.Path:
    """Where the checkpoints of a run are kept: for a folder in the local copy of a run directory its place in the
    bucket, else the folder itself. Absolute."""
    if "://" in os.fspath(path):
        return epath.Path(path)
    here = epath.Path(path).resolve()
    for above in (here, *here.parents):
        if (marker := above / MARKER).is_file():
            return epath.Path(marker.read_text()) / here.relative_to(above)
    return here
