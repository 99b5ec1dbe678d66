"""Estimates over cases that cross profiles with personalities: variance components, t intervals, p values.

Cases share profiles and personalities, so they are not independent: taken one by one their intervals are far too
narrow. With s = profile + personality + case effect, the variance of a mean over a complete crossing of I x J is

    V = (MS_profile + MS_personality - MS_case) / (I J)

from the mean squares of the two-way analysis of variance (Searle, Casella, McCulloch, Variance Components, chapter 4).
An incomplete crossing takes the combination of the same sums of squares that is unbiased for it (Henderson's method 1,
the case effect from the residuals of the additive fit). V is never below the variance of N independent cases. Its
degrees of freedom are Satterthwaite's, with the correction for estimated mean squares of Johnson and Rust (1992), and
at least those of the smaller factor:

    df = V^2 / sum_m (weight_m MS_m)^2 / (df_m + 2) - 2

Limits. Several cases of one cell count as one unit, their sum. A factor with one level says nothing about others: the
interval is about that level only, and over a single cell there is none. Where no residual is left (each profile has
personalities of its own), the larger of the two one-way variances counts. `tests/long/coverage.py` measures the
coverage; with two levels of a factor it can fall to 85 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtr, stdtrit

from eval.benchmark.scores import ScoreTable


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and degrees of freedom; both are NaN where a single cell allows no interval."""

    value: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The central t interval; None without a standard error."""
        if np.isnan(self.error):
            return None
        half = self.error * float(stdtrit(self.df, (1 + level) / 2))
        return self.value - half, self.value + half

    def p_value(self) -> float | None:
        """Two-sided, for the hypothesis that the true value is zero; None without a standard error."""
        if np.isnan(self.error):
            return None
        if self.error == 0:
            return float(self.value == 0)
        return 2 * float(stdtr(self.df, -abs(self.value) / self.error))


@dataclass(frozen=True)
class Layout:
    """The occupied cells of a crossing, and how the variance of a mean over them is made of mean squares."""

    cells: Int[np.ndarray, " N"]  # number of each case's cell
    profiles: Int[np.ndarray, " C"]  # of each cell, numbered without gaps
    personalities: Int[np.ndarray, " C"]
    df: tuple[int, int, int]  # of profile, personality and case
    expected: Float[np.ndarray, "3 3"] | None  # sums of squares (rows) by variance component; None: no residual
    basis: (
        Float[np.ndarray, "C R"] | None
    )  # orthonormal, of the additive model without its mean; None: all cells occupied

    @property
    def levels(self) -> tuple[int, int]:
        """The numbers of profiles and personalities."""
        return self.df[0] + 1, self.df[1] + 1


def layout_of(profiles: Int[np.ndarray, " N"], personalities: Int[np.ndarray, " N"]) -> Layout:
    """The layout of N cases by the numbers (or any labels) of their profiles and personalities."""
    pairs, cells = np.unique(np.stack([profiles, personalities]), axis=1, return_inverse=True)
    rows, columns = (np.unique(pair, return_inverse=True)[1] for pair in pairs)
    count, rows_count, columns_count = pairs.shape[1], int(rows.max()) + 1, int(columns.max()) + 1
    basis, additive = None, rows_count + columns_count - 2
    if count < rows_count * columns_count:
        indicators = np.concatenate([np.eye(rows_count)[rows], np.eye(columns_count)[columns]], axis=1)
        left, singular, _ = np.linalg.svd(indicators - indicators.mean(axis=0), full_matrices=False)
        basis = left[:, singular > 1e-9 * max(1.0, singular.max())]
        additive = basis.shape[1]
    df = (rows_count - 1, columns_count - 1, count - 1 - additive)
    return Layout(cells.ravel(), rows, columns, df, _expected(rows, columns, df), basis)


def _shared(of_cell: Int[np.ndarray, " C"]) -> float:
    """Variance component of a factor in the mean of C cells, times C: its mean number of cells per level, weighted."""
    sizes = np.bincount(of_cell)
    return float(sizes @ sizes) / of_cell.size


def _expected(
    rows: Int[np.ndarray, " C"], columns: Int[np.ndarray, " C"], df: tuple[int, int, int]
) -> Float[np.ndarray, "3 3"] | None:
    """Expected sums of squares of profile, personality and case by variance component (Henderson's method 1)."""
    if min(df) < 1:
        return None
    count, by_row, by_column = rows.size, np.bincount(rows), np.bincount(columns)
    shared_rows, shared_columns = _shared(rows), _shared(columns)
    expected = np.array(
        [
            [count - shared_rows, np.sum(1 / by_row[rows]) - shared_columns, df[0]],
            [np.sum(1 / by_column[columns]) - shared_rows, count - shared_columns, df[1]],
            [0.0, 0.0, df[2]],
        ]
    )
    return expected if np.linalg.cond(expected) < 1e9 else None


def sums_of_squares(
    layout: Layout, influences: Float[np.ndarray, "*S N"]
) -> tuple[list[np.ndarray], Float[np.ndarray, "*S"], list[np.ndarray]]:
    """The cells' sums by profile and by personality, the total sum of squares, and those of profile, personality and
    case (only where the layout has a residual)."""
    count = layout.profiles.size
    if count == layout.cells.size:
        units = influences[..., np.argsort(layout.cells)]
    else:
        units = influences @ np.eye(count)[layout.cells] * (count / layout.cells.size)
    units = units - units.mean(axis=-1, keepdims=True)
    factors = (layout.profiles, layout.personalities)
    sums = [units @ np.eye(size)[of_cell] for size, of_cell in zip(layout.levels, factors, strict=True)]
    total = np.square(units).sum(axis=-1)
    squares = [np.sum(np.square(each) / np.bincount(of_cell), -1) for each, of_cell in zip(sums, factors, strict=True)]
    # Over a complete crossing the two factors are orthogonal.
    additive = squares[0] + squares[1] if layout.basis is None else np.square(units @ layout.basis).sum(axis=-1)
    squares.append(np.maximum(total - additive, 0.0))
    return sums, total, squares


def variance(
    layout: Layout, influences: Float[np.ndarray, "*S N"]
) -> tuple[Float[np.ndarray, "*S"], Float[np.ndarray, "*S"]]:
    """Variance and degrees of freedom of each mean over the N cases of `influences`.

    An influence is a case's share of an estimate, such that the estimate varies as the mean of its influences; for a
    plain mean it is the case's own value. NaN for a single cell.
    """
    count = layout.profiles.size
    if count < 2:
        undefined = np.full(influences.shape[:-1], np.nan)
        return undefined, undefined
    sums, total, squares = sums_of_squares(layout, influences)
    if layout.expected is None:
        return _one_way(layout.levels, sums, count)
    wanted = np.array([_shared(layout.profiles), _shared(layout.personalities), 1.0]) / count
    weights = np.linalg.solve(layout.expected.T, wanted) * layout.df
    means = [each / df for each, df in zip(squares, layout.df, strict=True)]
    return combined(means, weights, layout.df, total / (count - 1) / count)


def components(layout: Layout, influences: Float[np.ndarray, " N"]) -> Float[np.ndarray, " 3"] | None:
    """The variance components of profile, personality and case, none below zero; None without a residual."""
    if layout.expected is None:
        return None
    return np.maximum(np.linalg.solve(layout.expected, np.stack(sums_of_squares(layout, influences)[2])), 0.0)


def combined(
    means: Sequence[np.ndarray],
    weights: Sequence[np.ndarray] | np.ndarray,
    df: Sequence[np.ndarray | int],
    alone: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Variance and its degrees of freedom from the mean squares of profile, personality and case. `alone`: the variance
    if all cases were independent, which is the least that counts; its degrees of freedom are those of all cases."""
    parts = [weight * mean for weight, mean in zip(weights, means, strict=True)]
    crossed = parts[0] + parts[1] + parts[2]
    spread = np.sum([np.square(part) / (each + 2) for part, each in zip(parts, df, strict=True)], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.nan_to_num(np.square(crossed) / spread - 2, nan=0.0)
    freedom = np.maximum(found, np.minimum(df[0], df[1]))
    return np.maximum(crossed, alone), np.where(crossed < alone, df[0] + df[1] + df[2], freedom)


def planned_variance(
    parts: Float[np.ndarray, " 3"], profiles: Float[np.ndarray, "*S"], personalities: Float[np.ndarray, "*S"]
) -> tuple[Float[np.ndarray, "*S"], Float[np.ndarray, "*S"]]:
    """Variance of the mean over complete crossings of these sizes, two levels at least, and its degrees of freedom, by
    the variance components `parts` of profile, personality and case."""
    count = profiles * personalities
    df = (profiles - 1, personalities - 1, (profiles - 1) * (personalities - 1))
    means = (parts[2] + personalities * parts[0], parts[2] + profiles * parts[1], parts[2] + 0.0 * count)
    alone = np.sum([each * mean for each, mean in zip(df, means, strict=True)], axis=0) / (count - 1) / count
    return combined(means, (1 / count, 1 / count, -1 / count), df, alone)


def _one_way(levels: tuple[int, int], sums: Sequence[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The larger of the two variances between clusters, profiles or personalities, of those that have two levels."""
    found = [
        (np.square(each).sum(axis=-1) * (size / (size - 1)) / count**2, size - 1)
        for size, each in zip(levels, sums, strict=True)
        if size > 1
    ]
    variances = np.stack([each for each, _ in found])
    best = variances.argmax(axis=0)
    return variances.max(axis=0), np.array([df for _, df in found], dtype=float)[best]


def influences(scores: Float[np.ndarray, "*S N K"], weights: Float[np.ndarray, " K"]) -> Float[np.ndarray, "*S N"]:
    """Each case's influence on `sum_k weights[k] AL(k)`, with AL(k) the mean over the cases scored at turn k (NaN: not
    scored). With every reply scored: the case's own weighted sum, minus the mean."""
    scored = ~np.isnan(scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        levels = np.where(scored, scores, 0.0).sum(axis=-2, keepdims=True) / scored.sum(axis=-2, keepdims=True)
        shares = np.where(scored, scores - levels, 0.0) / scored.mean(axis=-2, keepdims=True)
    return shares @ weights


@dataclass(frozen=True)
class Linearised:
    """An estimate that varies as the mean of its cases' influences."""

    value: float
    layout: Layout
    influences: Float[np.ndarray, " N"]

    def estimate(self) -> Estimate:
        """With its standard error."""
        found, df = variance(self.layout, self.influences)
        return Estimate(self.value, float(np.sqrt(found)), float(df))


def linear(table: ScoreTable, weights: Float[np.ndarray, " K"]) -> Linearised | None:
    """`sum_k weights[k] AL(k)` of a table; None if a turn with a weight has nothing scored. Cases without any score at
    those turns are left out of the layout."""
    needed = weights != 0
    scores = table.scores[:, needed]
    if np.isnan(scores).all(axis=0).any():
        return None
    kept = ~np.isnan(scores).all(axis=1)
    layout = layout_of(table.profiles[kept], table.personalities[kept])
    value = float(np.nanmean(scores, axis=0) @ weights[needed])
    return Linearised(value, layout, influences(scores[kept], weights[needed]))


def average_weights(turns: int) -> Float[np.ndarray, " K"]:
    """Weights of the average over the turns."""
    return np.full(turns, 1 / turns)


def slope_weights(turns: int) -> Float[np.ndarray, " K"]:
    """Weights of IR, the slope of the least-squares line; `turns` is at least 2."""
    centred = np.arange(turns) - (turns - 1) / 2
    return centred / (centred @ centred)


def turn_weights(turn: int, turns: int) -> Float[np.ndarray, " K"]:
    """Weights of AL(turn), turn from 1."""
    return np.eye(turns)[turn - 1]
