"""Files in buckets that a setting names: data of others, which a run only reads."""

from __future__ import annotations

import glob
from fnmatch import fnmatchcase

from aloe_jax.bucket.places import SCHEME, url_of
from aloe_jax.bucket.store import Store, forget_listings
from aloe_jax.errors import InputError


def matching(pattern: str) -> list[str]:
    """The URLs of the objects that `gs://BUCKET/...` names, sorted. `*`, `?` and `[...]` stand for what they do in
    paths of this machine: for no `/`, and at its beginning for no dot. Empty if there is none.

    Raises InputError for a URL that names no object of one bucket, and as `Store` does.
    """
    bucket, _, name = url_of(pattern).removeprefix(SCHEME).partition("/")
    if glob.has_magic(bucket):
        raise InputError(f"'{pattern}' must name one bucket; write * and ? after {SCHEME}BUCKET/ alone")
    forget_listings()  # the files are read through `epath`
    whole = next((at for at, sign in enumerate(name) if glob.has_magic(sign)), len(name))
    found = Store(f"{SCHEME}{bucket}").objects(name[:whole])
    return sorted(f"{SCHEME}{bucket}/{each}" for each in found if _matches(each.split("/"), name.split("/")))


def _matches(names: list[str], patterns: list[str]) -> bool:
    return len(names) == len(patterns) and all(
        fnmatchcase(name, pattern) and (name[:1] != "." or pattern[:1] == ".")
        for name, pattern in zip(names, patterns, strict=True)
    )
