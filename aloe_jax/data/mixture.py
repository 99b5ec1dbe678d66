"""A mixture of conversations: the run's own trees and other sources of the config, such as chats."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.bucket.given import matching
from aloe_jax.bucket.places import in_bucket
from aloe_jax.data.settings import TREES, DatasetSettings
from aloe_jax.errors import InputError
from aloe_jax.formats.convert import stream_conversations
from aloe_jax.tree.schema import Conversation


@dataclass(frozen=True)
class Source:
    """An entry of `config.dataset.sources`. `paths` is empty for the run's own conversations."""

    name: str
    paths: tuple[str, ...]
    weight: float
    loss_weight: float

    def hash(self) -> str:
        """Hash of the files' content, in their order."""
        return files.sha256(*(files.hash_file(path) for path in self.paths))


def sources_of(settings: DatasetSettings) -> tuple[Source, ...]:
    """The sources of `config.dataset`: the trees first, then those with a path, by name.

    Raises InputError for a missing file and for a weight out of range.
    """
    given = settings.sources
    if TREES not in given:
        raise InputError(f"config.dataset.sources has no '{TREES}'; an epoch is counted by it")
    found = []
    for name in sorted(given, key=lambda name: (name != TREES, name)):
        source, where = given[name], f"config.dataset.sources.{name}"
        paths = _paths(source.path, f"{where}.path")
        if not 0 <= source.weight < float("inf"):
            raise InputError(f"{where}.weight: {source.weight} must be a number of at least 0")
        if not 0 < source.loss_weight < float("inf"):
            raise InputError(f"{where}.loss_weight: {source.loss_weight} must be above 0; weight 0 leaves it out")
        if name == TREES and not source.weight:
            raise InputError(f"{where}.weight: 0.0 leaves nothing to measure the other sources by; it must be above 0")
        if paths or name == TREES:
            found.append(Source(name, paths, source.weight, source.loss_weight))
    return tuple(found)


def _paths(value: str, where: str) -> tuple[str, ...]:
    """The existing files of a comma-separated list of paths, of this machine or in `gs://`; `*` and `?` match files,
    sorted by name."""
    found: list[str] = []
    for pattern in filter(None, map(str.strip, value.split(","))):
        try:
            matches = matching(pattern) if in_bucket(pattern) else _here(pattern)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if not matches:
            raise InputError(f"{where}: no file matches '{pattern}'; write the files of a folder as DIR/*.jsonl")
        found += matches
    return tuple(found)


def _here(pattern: str) -> list[str]:
    """The files of this machine that a path or pattern names."""
    if glob.has_magic(pattern):
        return sorted(glob.glob(pattern))
    return [str(files.existing(pattern))]


def read_source(
    source: Source, own: epath.PathLike, notice: Callable[[str], None] = lambda sentence: None
) -> Iterator[Conversation]:
    """The conversations of a source; `own` is the file of the run's trees. `notice` is called with what was not read.
    InputError for a file without conversations."""
    for path in source.paths or (own,):
        yield from stream_conversations(path, notice)


def drawn(pools: Sequence[Sequence[int]], weights: Sequence[float], seed: int, epoch: int) -> list[int]:
    """The conversations of an epoch, in no particular order.

    These are all of the first pool, and round(its size x weight / first weight) of each other pool. The latter are
    drawn without replacement, continuing in the next epoch, and the pool is reshuffled when it is exhausted: an epoch
    may take part of a large pool and repeats a small one. If the first pool is empty, the largest other one with a
    weight takes its place. A pure function of its arguments.
    """
    weighted = [number for number, pool in enumerate(pools) if pool and weights[number] > 0]
    if not weighted:
        return []
    base = 0 if weighted[0] == 0 else max(weighted, key=lambda number: len(pools[number]))
    found = list(pools[base])
    for number in weighted:
        if number != base:
            count = round(len(pools[base]) * weights[number] / weights[base])
            found += _taken(pools[number], epoch * count, count, (seed, number))
    return found


def _taken(pool: Sequence[int], start: int, count: int, key: Sequence[int]) -> list[int]:
    """Entries [start, start + count) of the pool's endless sequence, which consists of one shuffle after the other."""
    found: list[int] = []
    while len(found) < count:
        shuffle, at = divmod(start + len(found), len(pool))
        rng = np.random.default_rng([*key, shuffle, 1])  # no epoch's shuffle has this key
        order = rng.permutation(len(pool))
        found += [pool[index] for index in order[at : at + count - len(found)].tolist()]
    return found
