"""The files of a snapshot on this machine: downloading them, and telling whether they are there."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from aloe_jax.bucket.snapshot import Part, Snapshot, size_of
from aloe_jax.bucket.store import AT_ONCE, Object, Store
from aloe_jax.bucket.tree import LEDGERS
from aloe_jax.errors import ResumableError

BLOCK = 1 << 20  # bytes read at once


def fetch(store: Store, snapshot: Snapshot, root: Path, wanted: Callable[[str], bool]) -> int:
    """Download the `wanted` files of a snapshot into the folder `root`, each whole or not at all; returns their bytes.
    FileNotFoundError if a part is not there any more, since the snapshot has been replaced."""
    chosen = {name: parts for name, parts in snapshot.files.items() if wanted(name)}
    with ThreadPoolExecutor(AT_ONCE, "aloe-bucket") as pool:
        list(pool.map(lambda item: _fetch(store, root / item[0], item[1]), chosen.items()))
    return sum(map(size_of, chosen.values()))


def _fetch(store: Store, path: Path, parts: tuple[Part, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        for part in parts:
            store.download(part.name, file)
    if partial.stat().st_size != size_of(parts):
        raise ResumableError(f"'{store.url}': {path.name} came with another size than it was stored with; try again")
    partial.replace(path)


def whole_and_equal(root: Path, snapshot: Snapshot, objects: Mapping[str, Object]) -> list[str]:
    """The files of a snapshot that are in the folder `root` with the same content, by the checksums of `objects`;
    ledgers may have more at their end."""
    with ThreadPoolExecutor(AT_ONCE, "aloe-bucket") as pool:
        equal = pool.map(lambda item: _begins_with(root / item[0], item[1], objects), snapshot.files.items())
        return [name for name, same in zip(snapshot.files, equal, strict=True) if same]


def _begins_with(path: Path, parts: tuple[Part, ...], objects: Mapping[str, Object]) -> bool:
    """Whether a file has its parts at its beginning and, unless it is a ledger, nothing else."""
    if not path.is_file() or not (path.name.endswith(LEDGERS) or path.stat().st_size == size_of(parts)):
        return False
    with open(path, "rb") as file:
        return all(part.name in objects and _checksum(file, part.size) == objects[part.name].checksum for part in parts)


def _checksum(file: IO[bytes], size: int) -> str:
    """The CRC32C of the next `size` bytes as a bucket tells it; of fewer bytes if the file ends before."""
    from google_crc32c import Checksum

    found = Checksum()
    while size and (data := file.read(min(size, BLOCK))):
        found.update(data)
        size -= len(data)
    return base64.b64encode(found.digest()).decode()
