"""SHA-256 digests of a checkpoint's files, kept beside them: Orbax has no checksums, so a flipped bit would load as
another parameter.

They are of the files as stored, hence independent of mesh and processes. A checkpoint of before has none and is read as
it is. In a bucket the server's own checksums take their place, which cost no reading: a bucket looks after its bits,
but not after objects that another process replaced.
"""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from etils import epath

from aloe_jax import files
from aloe_jax.bucket.places import in_bucket
from aloe_jax.bucket.store import checksums
from aloe_jax.errors import InputError
from aloe_jax.parallel import hosts

DIGESTS = "digests.json"  # in the checkpoint's folder: digest by path, and one of these together


@dataclass(frozen=True)
class Verified:
    """What was compared with its digest before a checkpoint was read; no files: it has no digests."""

    files: int
    bytes: int
    seconds: float

    def line(self, checkpoint: epath.Path, seconds: float) -> str:
        """A line for the display, with the share of the `seconds` that the whole restore took."""
        if not self.files:
            return f"checkpoint '{checkpoint}' has no {DIGESTS}, so its files were read unverified"
        share = self.seconds / max(seconds, 1e-9)
        return (
            f"checkpoint '{checkpoint}': {self.files} files of {self.bytes / 1e9:.3f} GB verified in "
            f"{self.seconds:.2f} s, {share:.0%} of the restore"
        )


def write_digests(checkpoint: epath.Path) -> None:
    """Write the digests of all files of a complete checkpoint into its folder."""
    names = sorted(set(_names(checkpoint)) - {DIGESTS})
    found = dict(zip(names, _hashes(checkpoint, names), strict=True))
    digests = {"files": found, "digest": files.sha256(files.canonical(found))}
    if in_bucket(checkpoint):
        (checkpoint / DIGESTS).write_text(files.canonical(digests))  # an object appears whole
    else:
        files.write_json(checkpoint / DIGESTS, digests)


def _names(folder: epath.Path, above: str = "") -> Iterator[str]:
    """The paths of all files below a folder."""
    if in_bucket(folder):
        yield from checksums(str(folder))
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _names(path, f"{above}{path.name}/")
        else:
            yield above + path.name


def verify(checkpoint: epath.Path, parts: Sequence[str] = (), alone: bool = False) -> Verified:
    """Compare the files of a checkpoint with their digests; with `parts`, those in these folders and at its top.

    Unless `alone`, all processes call this together, and each reads its share. Raises ValueError, on all of them,
    naming the first file that is missing or differs, or one that was not saved: Orbax would take it for its own.
    """
    start = time.monotonic()
    if not (checkpoint / DIGESTS).exists():
        return Verified(0, 0, 0.0)
    digests = _stored(checkpoint)
    chosen = _chosen(digests, parts)
    first, step = (0, 1) if alone else (hosts.process_index(), hosts.process_count())
    strays = _chosen(set(_names(checkpoint)) - {*digests, DIGESTS}, parts) if first == 0 else []
    mine = range(first, len(chosen), step)
    found = _hashes(checkpoint, [chosen[number] for number in mine])
    wrong = [number for number, digest in zip(mine, found, strict=True) if digest != digests[chosen[number]]]
    seen = len(chosen) - min(wrong, default=len(chosen))  # the first file is the largest number but that of strays
    seen = len(chosen) + 1 if strays else seen
    if seen := seen if alone else hosts.largest(seen):
        if seen > len(chosen):
            name = f"its file {strays[0]}" if strays else "one of its files"
            raise ValueError(f"{name} is none of those that were saved; without it the others can be read")
        name = chosen[len(chosen) - seen]
        state = "differs from its digest" if (checkpoint / name).exists() else "is missing"
        raise ValueError(f"its file {name} {state}, since it was saved")
    size = sum((checkpoint / name).stat().length for name in chosen)
    return Verified(len(chosen), size, time.monotonic() - start)


def _chosen(names: Iterable[str], parts: Sequence[str]) -> list[str]:
    """The names of files in these folders and at the top, all if no folders are given; sorted."""
    return [name for name in sorted(names) if not parts or "/" not in name or name.split("/")[0] in parts]


def _stored(checkpoint: epath.Path) -> Mapping[str, str]:
    """The digests by path. ValueError for a broken file."""
    found = files.read_json(checkpoint / DIGESTS)
    digests = found.get("files") if isinstance(found, dict) else None
    if not isinstance(digests, dict) or found.get("digest") != files.sha256(files.canonical(digests)):
        raise ValueError(f"its file {DIGESTS} is damaged")
    return digests


def _hashes(checkpoint: epath.Path, names: Sequence[str]) -> list[str]:
    """The digest of each file, empty where it cannot be read; several are read at once."""
    if in_bucket(checkpoint):
        known = checksums(str(checkpoint))
        return [known.get(name, "") for name in names]

    def digest(name: str) -> str:
        try:
            return files.hash_file(checkpoint / name)
        except (OSError, InputError):
            return ""

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(digest, names))
