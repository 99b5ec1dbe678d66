"""What rounds have seen of siblings: the running spread of Q, by turn and by group of personas, which advantages are
divided by, and by turn how much of what their futures differ by is chance.

Groups without spread do not count: the more of them there are, the larger the advantages of all others would be.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

KEPT = 0.9  # weight of what was seen before, per update
PRIOR = 8.0  # groups of siblings that the spread of the turn counts for beside those of a group of personas
ALL = 0  # in place of a turn
Key = tuple[str, int]  # group of personas ("" for all), turn
Plain = dict[str, list[list[Any]]]


class Seen(NamedTuple):
    """Of one group of siblings with several futures each: the turn, the sample variance of the siblings' means of what
    follows their own turn, and the part of it that is due to chance."""

    turn: int
    variance: float
    error: float


@dataclass(frozen=True)
class Spread:
    """Sums of sample variances of siblings' Q and of weights, by group of personas and turn; immutable.

    One group of siblings says little about its spread, so the variance of a group of personas is drawn towards that of
    the turn: (sum of the group's + `PRIOR` x variance of the turn) / (weight of the group's + `PRIOR`). `futures` are
    sums of the variances and errors of `Seen`, and weights, by turn and of `ALL`, which those of a turn are drawn to in
    the same way.
    """

    sums: Mapping[Key, tuple[float, float]] = field(default_factory=dict)
    futures: Mapping[int, tuple[float, float, float]] = field(default_factory=dict)

    def updated(self, variances: Iterable[tuple[str, int, float]]) -> Spread:
        """The spread after a round whose groups of siblings had these variances: (group of personas, turn, variance).
        What was seen before counts `KEPT` as much."""
        sums = defaultdict(lambda: (0.0, 0.0), {key: (KEPT * s, KEPT * w) for key, (s, w) in self.sums.items()})
        for group, turn, variance in variances:
            for key in {("", turn), (group, turn)}:
                sums[key] = (sums[key][0] + variance, sums[key][1] + 1.0)
        return Spread(dict(sums), self.futures)

    def seen(self, groups: Iterable[Seen]) -> Spread:
        """The spread after a round whose groups of siblings have shown this of their futures."""
        sums = defaultdict(lambda: np.zeros(3), {turn: KEPT * np.array(row) for turn, row in self.futures.items()})
        for turn, variance, error in groups:
            for key in (ALL, turn):
                sums[key] = sums[key] + (variance, error, 1.0)
        return Spread(self.sums, {turn: tuple(row.tolist()) for turn, row in sums.items()})

    def weight(self, turn: int) -> float:
        """How much the futures of a turn count: the share of their variance among siblings that is not chance, which
        is what shrinks the sum of both parts to its best linear estimate if they vary independently (empirical
        Bayes). 1 where nothing has been seen."""
        every, own = (np.array(self.futures.get(key, (0.0, 0.0, 0.0))) for key in (ALL, turn))
        if not every[2]:
            return 1.0
        variance, error, _ = own + PRIOR * every / every[2]
        return max(0.0, 1.0 - error / variance) if variance > 0 else 1.0

    def of(self, group: str, turn: int) -> float:
        """The standard deviation to divide by; 1 for a turn that no siblings have differed in yet."""
        total, weight = self.sums.get(("", turn), (0.0, 0.0))
        common = total / weight if weight else 0.0
        own, own_weight = self.sums.get((group, turn), (0.0, 0.0)) if group else (0.0, 0.0)
        return math.sqrt((own + PRIOR * common) / (own_weight + PRIOR)) or 1.0

    def plain(self) -> Plain:
        """The sums as rows for JSON; `read` takes them back."""
        return {
            "spread": [[group, turn, *self.sums[group, turn]] for group, turn in sorted(self.sums)],
            "futures": [[turn, *self.futures[turn]] for turn in sorted(self.futures)],
        }

    @classmethod
    def read(cls, found: Plain) -> Spread:
        """A spread of what `plain` gives, or of nothing."""
        return cls(
            {(group, turn): (total, weight) for group, turn, total, weight in found.get("spread", ())},
            {turn: (variance, error, weight) for turn, variance, error, weight in found.get("futures", ())},
        )
