"""How a figure spreads over conversations, replies or pairs: its quantiles and a histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BINS = 12  # at most, unless each whole number has one
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Distribution:
    """Quantiles of some values, and the number of values in bins of equal width.

    Attributes:
        name: what a value is.
        edges: the lower edges of the bins and, last, the upper edge of the last one, which belongs to it.
        whole: whether values are whole numbers; a bin of width 1 then holds only its lower edge.
    """

    name: str
    values: int
    low: float
    median: float
    mean: float
    p90: float
    high: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    whole: bool

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in pairwise(self.edges))
        if not (self.counts and min(self.counts) >= 0 and len(self.edges) == len(self.counts) + 1 and rising):
            raise ValueError("edges and counts do not make a histogram")
        if sum(self.counts) != self.values or not self.values:
            raise ValueError(f"the bins hold {sum(self.counts)} of {self.values} values")

    @property
    def labels(self) -> tuple[str, ...]:
        """The values of each bin as text."""
        last = len(self.counts) - 1
        found = []
        for index, (low, high) in enumerate(pairwise(self.edges)):
            top = high - 1 if self.whole and index < last else high
            top = min(top, self.high) if index == last else top
            found.append(f"{low:,g}" if top <= low else f"{low:,g} to {top:,g}")
        return tuple(found)

    @property
    def blocks(self) -> str:
        """The histogram as a line of characters, empty bins as spaces."""
        most = max(self.counts)
        return "".join(_BLOCKS[math.ceil(count / most * 8) - 1] if count else " " for count in self.counts)


def distribution(name: str, values: Sequence[float], whole: bool = True) -> Distribution | None:
    """The distribution of some values, None without any. The bins are 1, 2 or 5 x 10^n wide, of whole numbers at least
    1; the first begins at a multiple of the width."""
    if not values:
        return None
    given = np.asarray(values, np.float64)
    low, high = float(given.min()), float(given.max())
    width = _width(low, high, whole)
    start = math.floor(low / width + 1e-9)
    bins = max(1, math.floor(high / width + 1e-9) - start + 1)
    if bins > 1 and not whole and high <= (start + bins - 1) * width + 1e-9:
        bins -= 1  # the last edge belongs to the last bin
    places = np.minimum(np.floor(given / width + 1e-9).astype(int) - start, bins - 1)
    median, p90 = (float(value) for value in np.quantile(given, (0.5, 0.9)))
    return Distribution(
        name=name,
        values=len(given),
        low=low,
        median=median,
        mean=float(given.mean()),
        p90=p90,
        high=high,
        edges=tuple(round((start + index) * width, 12) for index in range(bins + 1)),
        counts=tuple(np.bincount(places, minlength=bins).tolist()),
        whole=whole,
    )


def _width(low: float, high: float, whole: bool) -> float:
    """The minimum width of 1, 2 or 5 x 10^n with which at most BINS bins hold the range."""
    if high <= low:
        return 1.0 if whole else 0.1
    power = 10.0 ** math.floor(math.log10((high - low) / BINS))
    for factor in (1, 2, 5, 10, 20):
        width = max(power * factor, 1.0) if whole else power * factor
        if math.floor(high / width + 1e-9) - math.floor(low / width + 1e-9) < BINS:
            return width
    return power * 50
