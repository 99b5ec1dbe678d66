"""Where a run in a bucket is on this machine, and where in the bucket a file of its local copy is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.folders import cache_root

SCHEME = "gs://"
MARKER = ".bucket"  # at the top of a local copy: the URL of the run directory
RECORDS = ".aloe"  # a folder of the run directory with what is ours alone: lease, snapshot and the files' parts
_URL = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/")  # also one that lost a slash, as in Path("gs://a") of Python


def in_bucket(path: epath.PathLike) -> bool:
    """Whether `path` is the URL of a place in a bucket. InputError for any other URL, which would name a folder of this
    machine, lost with it: gs:/a/b, GS://a/b, s3://a/b."""
    text = os.fspath(path)
    if not text.startswith(SCHEME) and _URL.match(text):
        raise InputError(
            f"'{text}' is in an object store that runs do not know; use a folder of this machine or "
            f"{SCHEME}BUCKET/DIR, written with gs:// in front"
        )
    return text.startswith(SCHEME)


def url_of(path: epath.PathLike) -> str:
    """The URL as `epath`, through which checkpoints go, writes it: without empty folders and ".". InputError if it
    names no folder in a bucket."""
    bucket, *folders = os.fspath(path).removeprefix(SCHEME).split("/")
    found = [name for name in folders if name not in ("", ".")]
    # Programs for buckets read ".." in different ways, and nobody sees a space at the end of a name.
    if not bucket or not found or any(name == ".." or name != name.strip() or not name.isprintable() for name in found):
        raise InputError(
            f"'{path}' is no folder in a bucket; expected {SCHEME}BUCKET/DIR, without '..' and without spaces or line "
            "breaks around the names"
        )
    return f"{SCHEME}{bucket}/{'/'.join(found)}"


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
