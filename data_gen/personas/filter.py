"""The pool's filter: a candidate is new if it is no exact duplicate, not stitched together from entries of the pool,
and not too near to one of them in meaning.

The bound on the cosine is calibrated: a figure such as 0.6 belongs to one encoder and one kind of text (with
all-MiniLM-L6-v2 it would keep 25 profiles and 3 personalities of the paper's pools; paper, section 1). The hand-written
seeds are different by construction, so entries that lie no nearer to each other than the seeds do are different too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aloe_jax.errors import InputError
from data_gen.personas.entry import Entry
from data_gen.text import word_grams, words

GRAM = 5  # words
# Largest share of a candidate's word 5-grams that the pool may hold already. Hand-written entries share less than 0.05
# with each other; a candidate put together from the examples in the prompt shares nearly all.
MOST_SHARED_GRAMS = 0.25
BLOCK = 1 << 26  # cosines in memory at a time, 256 MiB
ROUNDING = 1e-6  # float32 dot products of the same vectors differ by this between array shapes
QUANTILES = (5, 25, 50, 75, 95)  # per cent


@dataclass(frozen=True)
class Verdict:
    """The pool's decision on a candidate. `reason` is None if it was taken, else "exact duplicate", "n-gram duplicate"
    or "too similar". `similarity` is the figure that decided (1.0, the share of word 5-grams, the largest cosine) and
    `nearest` the id of the nearest entry by that figure, None if there was none."""

    reason: str | None
    similarity: float | None
    nearest: str | None


class Pool:
    """Entries that all differ; a candidate is compared with every entry taken before it."""

    def __init__(self, threshold: float) -> None:
        """`threshold` is the largest cosine to the nearest entry that a candidate may have."""
        self.threshold = threshold
        self.entries: list[Entry] = []
        self._rows = np.empty((0, 0), np.float32)  # vectors of the entries, then room for more
        self._texts: dict[tuple[tuple[str, ...], ...], str] = {}  # normalised items -> id
        self._grams: dict[tuple[str, ...], str] = {}  # -> id of the first entry that has it

    @property
    def vectors(self) -> Float[np.ndarray, "N D"]:
        """The entries' vectors, in their order."""
        return self._rows[: len(self.entries)]

    def add(self, entry: Entry, vector: Float[np.ndarray, " D"]) -> None:
        """Take `entry` without a comparison, as for the seeds."""
        if len(self.entries) == len(self._rows):  # doubled, so that a pool of N entries is copied log N times
            rows = np.empty((max(64, 2 * len(self._rows)), len(vector)), vector.dtype)
            if self.entries:
                rows[: len(self.entries)] = self.vectors
            self._rows = rows
        self._rows[len(self.entries)] = vector
        self.entries.append(entry)
        self._texts.setdefault(normalised(entry.items), entry.id)
        for gram in item_grams(entry.items):
            self._grams.setdefault(gram, entry.id)

    def offer(self, entry: Entry, vector: Float[np.ndarray, " D"]) -> Verdict:
        """The verdict on `entry`, which is taken if it is new; `vector` has unit length."""
        if duplicate := self._texts.get(normalised(entry.items)):
            return Verdict("exact duplicate", 1.0, duplicate)
        grams = item_grams(entry.items)
        held = [self._grams[gram] for gram in sorted(grams) if gram in self._grams]
        if len(held) > MOST_SHARED_GRAMS * len(grams):
            return Verdict("n-gram duplicate", len(held) / len(grams), max(dict.fromkeys(held), key=held.count))
        similarity, nearest = None, None
        if self.entries:
            cosines = self.vectors @ vector
            place = int(cosines.argmax())
            similarity, nearest = float(cosines[place]), self.entries[place].id
            if similarity > self.threshold + ROUNDING:
                return Verdict("too similar", similarity, nearest)
        self.add(entry, vector)
        return Verdict(None, similarity, nearest)


def normalised(items: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The items' words without case and punctuation, sorted, so that the order of the items does not matter."""
    return tuple(sorted(words(item) for item in items))


def item_grams(items: Sequence[str]) -> set[tuple[str, ...]]:
    """The word 5-grams within items; an item with fewer words counts as one gram."""
    return {gram for item in items for gram in word_grams(item, GRAM) or [words(item)]}


def nearest_neighbours(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " N"]:
    """Cosine of each vector (of unit length) to its nearest other one, in blocks of rows. InputError for fewer than
    two."""
    if len(vectors) < 2:
        raise InputError(f"nearest neighbours need at least 2 entries, found {len(vectors)}")
    found, rows = np.empty(len(vectors), vectors.dtype), max(1, BLOCK // len(vectors))
    for start in range(0, len(vectors), rows):
        cosines = vectors[start : start + rows] @ vectors.T
        np.fill_diagonal(cosines[:, start:], -np.inf)
        found[start : start + rows] = cosines.max(axis=1)
    return found


def calibrate(vectors: Float[np.ndarray, "N D"], quantile: float) -> float:
    """The threshold: the `quantile` (0 to 1) of the seeds' nearest-neighbour cosines. With 1, every seed would pass.

    InputError for a quantile outside [0, 1] or fewer than two seeds.
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile is {quantile}, expected 0 to 1")
    return float(np.quantile(nearest_neighbours(vectors), quantile))


def distribution(similarities: Float[np.ndarray, " N"]) -> dict[str, float]:
    """Minimum, maximum and the quantiles between, for the report."""
    found = np.percentile(similarities, (0, *QUANTILES, 100))
    names = ("min", *(f"q{percent:02d}" for percent in QUANTILES), "max")
    return {name: round(float(value), 4) for name, value in zip(names, found, strict=True)}
