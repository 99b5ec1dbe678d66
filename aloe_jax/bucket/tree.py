"""The files of a local copy: which of them belong into the bucket, and their state at one moment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

LEDGERS = ".jsonl"  # files that are appended line by line; others are replaced as a whole
INCOMPLETE = ".incomplete"  # in the name of a data set that TFDS is writing
MANIFEST = "manifest.json"  # of a stage: it says that all other files of the stage are there
SMALL = 1 << 20  # bytes of a file that every upload takes, not only one between two stages
LOOKS = 50  # at files that change while they are looked at
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Look:
    """The state of a file: what tells it from one that replaced it, its size, and its time of change."""

    inode: int
    size: int
    changed: int

    def is_still(self, before: Look) -> bool:
        """Whether it is the same file with the same in it, or with more at its end."""
        return self == before or (self.inode == before.inode and self.size > before.size)


def look_at(root: Path) -> dict[str, Look]:
    """All files below `root` that belong into the bucket, by relative path, at one moment: no file was made, replaced
    or appended to while the others were looked at. Writers that never pause are looked at as they are."""
    before = dict(_files(root))
    for _ in range(LOOKS):
        after = dict(_files(root))
        if after == before:
            break
        before = after
    return before


def chosen(looks: Mapping[str, Look], known: Mapping[str, Look], whole: bool) -> dict[str, Look]:
    """The files whose present state an upload takes. Unless it is a `whole` one, between two stages, large files and
    the manifests of stages, which promise them, stay as they are `known`: ledgers alone grow in the middle of a
    stage."""
    found = {}
    for name, look in looks.items():
        large = look.size > SMALL and not name.endswith(LEDGERS)
        if whole or not (large or is_manifest(name)):
            found[name] = look
        elif name in known:
            found[name] = known[name]
    return found


def is_manifest(name: str) -> bool:
    """Whether it is the manifest of a stage."""
    return PurePosixPath(name).name == MANIFEST and len(PurePosixPath(name).parts) == 2


def whole_lines(file: IO[bytes], size: int) -> int:
    """The size up to the end of the last complete line in the first `size` bytes of a ledger."""
    end = size
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        if (place := file.read(end - start).rfind(b"\n")) >= 0:
            return start + place + 1
        end = start
    return 0


def look(path: Path | int) -> Look:
    """The state of a file, or of an open one."""
    found = os.stat(path)
    return Look(found.st_ino, found.st_size, found.st_mtime_ns)


def _files(root: Path) -> Iterator[tuple[str, Look]]:
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if _belongs(name)]
        for name in filter(_belongs, names):
            path = Path(folder, name)
            try:
                if not path.is_symlink():
                    yield path.relative_to(root).as_posix(), look(path)
            except FileNotFoundError:  # replaced or removed in this moment
                continue


def _belongs(name: str) -> bool:
    """Whether a file or folder of that name belongs into the bucket: locks, partial files and our records do not."""
    return not name.startswith(".") and INCOMPLETE not in name and not name.endswith(".partial")
