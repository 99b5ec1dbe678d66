"""Two-way bootstrap: bands of curves, and intervals of figures that are not linear in the scores (R2, N-IR, N-R2).

Profiles and personalities are each drawn with replacement, independently of each other, and a case counts (draws of its
profile) x (draws of its personality) times. This is the pigeonhole bootstrap (Owen, 2007, arXiv 0712.1111): it
generalises to *other* profiles and personalities drawn as these were, and is conservative for the part of the variance
that belongs to single cases.

Known limit: the variance of a factor with n levels is estimated too small by the factor (n - 1) / n. On normal random
effects of equal size a nominal 95 % interval of a mean covered the truth in 94 % of trials with 20 x 20 levels, 90 %
with the benchmark's 20 x 5 and 82 % with 3 x 2. Where a figure is linear in the scores, `crossed.py` does better. A
factor with a single level does not vary at all: the interval is then about that level only.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def level_counts(levels: int, resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "S L"]:
    """How often each of L = `levels` levels occurs among L draws with replacement, for S = `resamples` resamples."""
    draws = rng.integers(levels, size=(resamples, levels))
    flat = (draws + levels * np.arange(resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=resamples * levels).reshape(resamples, levels)


def two_way_weights(
    profiles: Int[np.ndarray, " N"], personalities: Int[np.ndarray, " N"], resamples: int, seed: int
) -> Float[np.ndarray, "S N"]:
    """The weight of each case in each resample: the product of the counts of its profile and its personality.

    `profiles` and `personalities` number the levels from 0. Equal arguments give equal weights.
    """
    rng = np.random.default_rng(seed)
    by_profile = level_counts(int(profiles.max()) + 1, resamples, rng)
    by_personality = level_counts(int(personalities.max()) + 1, resamples, rng)
    return (by_profile[:, profiles] * by_personality[:, personalities]).astype(np.float64)


def weighted_means(values: Float[np.ndarray, "N K"], weights: Float[np.ndarray, "S N"]) -> Float[np.ndarray, "S K"]:
    """Weighted mean over the cases, per resample and column. NaN values are left out with their weight; a column with
    no weight left is NaN."""
    scored = ~np.isnan(values)
    sums = weights @ np.where(scored, values, 0.0)
    totals = weights @ scored.astype(np.float64)
    return np.divide(sums, totals, out=np.full_like(sums, np.nan), where=totals > 0)


def percentile_interval(values: Float[np.ndarray, " S"], level: float) -> tuple[float, float] | None:
    """The central `level` (0 to 1) share of the values without NaN; None if all are NaN."""
    defined = values[~np.isnan(values)]
    if defined.size == 0:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
