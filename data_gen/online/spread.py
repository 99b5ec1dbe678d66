"""The running spread of Q among siblings, by turn and by group of personas: what advantages are divided by.

Groups without spread do not count: the more of them there are, the larger the advantages of all others would be.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

KEPT = 0.9  # weight of what was seen before, per update
PRIOR = 8.0  # groups of siblings that the spread of the turn counts for beside those of a group of personas
Key = tuple[str, int]  # group of personas ("" for all), turn


@dataclass(frozen=True)
class Spread:
    """Sums of sample variances of siblings' Q and of weights, by group of personas and turn; immutable.

    One group of siblings says little about its spread, so the variance of a group of personas is drawn towards that of
    the turn: (sum of the group's + `PRIOR` x variance of the turn) / (weight of the group's + `PRIOR`).
    """

    sums: Mapping[Key, tuple[float, float]] = field(default_factory=dict)

    def updated(self, variances: Iterable[tuple[str, int, float]]) -> Spread:
        """The spread after a round whose groups of siblings had these variances: (group of personas, turn, variance).
        What was seen before counts `KEPT` as much."""
        sums = defaultdict(lambda: (0.0, 0.0), {key: (KEPT * s, KEPT * w) for key, (s, w) in self.sums.items()})
        for group, turn, variance in variances:
            for key in {("", turn), (group, turn)}:
                sums[key] = (sums[key][0] + variance, sums[key][1] + 1.0)
        return Spread(dict(sums))

    def of(self, group: str, turn: int) -> float:
        """The standard deviation to divide by; 1 for a turn that no siblings have differed in yet."""
        total, weight = self.sums.get(("", turn), (0.0, 0.0))
        common = total / weight if weight else 0.0
        own, own_weight = self.sums.get((group, turn), (0.0, 0.0)) if group else (0.0, 0.0)
        return math.sqrt((own + PRIOR * common) / (own_weight + PRIOR)) or 1.0

    def plain(self) -> list[tuple[str, int, float, float]]:
        """The sums as rows for JSON; `read` takes them back."""
        return [(group, turn, *self.sums[group, turn]) for group, turn in sorted(self.sums)]

    @classmethod
    def read(cls, rows: Iterable[tuple[str, int, float, float]]) -> Spread:
        """A spread of the rows of `plain`."""
        return cls({(group, turn): (total, weight) for group, turn, total, weight in rows})
