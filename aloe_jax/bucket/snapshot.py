"""The record of what a bucket holds of a run directory: for each file the objects whose contents, joined, are it.

Objects are written under new names and never changed; the record that lists them is replaced as a whole, on condition
of its generation. So the bucket always shows the files of one moment, whenever a writer is killed, and a writer that
comes back after its lease expired cannot mix in.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from aloe_jax.bucket.places import RECORDS
from aloe_jax.bucket.store import ABSENT, Store, parsed
from aloe_jax.tree.schema import Record

SNAPSHOT = f"{RECORDS}/snapshot.json"
PARTS = f"{RECORDS}/parts/"
VERSION = 1
MENDED = (
    "put back an earlier version of this object, if the bucket keeps some (`gcloud storage ls --all-versions`), or "
    "start anew in another --workdir; the files of finished stages are also below their own names"
)


class Part(Record):
    """An object with consecutive bytes of a file."""

    name: str
    size: int


class Snapshot(Record):
    """The files of a run directory at one moment.

    Attributes:
        version: of the format.
        id: of this state.
        files: the parts of each file, by its path relative to the run directory.
        copies: of the files that can also be read under their own path, the part that was copied.
    """

    version: int = VERSION
    id: str = ""
    files: dict[str, tuple[Part, ...]] = Field(default_factory=dict)
    copies: dict[str, str] = Field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The objects that it needs."""
        return {part.name for parts in self.files.values() for part in parts}


def read_snapshot(store: Store) -> tuple[Snapshot, int]:
    """The snapshot of a run directory and its generation; an empty one if there is none. InputError if it is
    damaged."""
    found = store.read(SNAPSHOT)
    if found is None:
        return Snapshot(), ABSENT
    return parsed(Snapshot, found[0], f"{store.url}/{SNAPSHOT}", MENDED), found[1].generation


def size_of(parts: Sequence[Part]) -> int:
    """The size of a file in bytes."""
    return sum(part.size for part in parts)


def kept_parts(parts: Sequence[Part], size: int) -> tuple[Part, ...]:
    """The parts that stay when a file grows to `size` bytes; what follows them is uploaded as one part. Small ones at
    the end are uploaded again with it, so that each part is at least twice as long as the next one, and a file of a
    gigabyte has thirty parts at most."""
    kept, tail = list(parts), size - size_of(parts)
    while kept and kept[-1].size < 2 * tail:
        tail += kept.pop().size
    return tuple(kept)
