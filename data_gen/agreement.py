"""Agreement of labellers beyond chance: kappa with weights, Krippendorff's alpha, Gwet's AC2.

Every coefficient is (observed - chance) / (1 - chance); they differ in what counts as chance. Ratings are numbers of a
scale, NaN where a labeller gave none. `weights` says how much two different ratings agree, with d their distance over
that of the scale's ends: `nominal` not at all, `linear` 1 - d, `quadratic` 1 - d^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Choice = Literal["first", "second", "tie"]
Weights = Literal["nominal", "linear", "quadratic"]
Metric = Literal["nominal", "ordinal", "interval"]
MINIMUM = 2  # pairs below which kappa is undefined
_CODES: dict[Choice, float] = {"first": -1.0, "tie": 0.0, "second": 1.0}


@dataclass(frozen=True)
class Agreement:
    """`n` pairs that both labelled, the share on which they agree, and Cohen's kappa. The share is None without any
    pair, kappa with fewer than two pairs and where chance agreement is 1 (both said tie every time)."""

    n: int
    agreement: float | None
    kappa: float | None


def kappa(pairs: Sequence[tuple[Choice, Choice]]) -> Agreement:
    """Agreement of two labellers; each item is their two labels for one pair of replies, in the same reply order.

    Which reply comes first carries no meaning, so each pair counts in both orders: a labeller's shares of "first" and
    "second" are then equal, and kappa does not depend on the order. With t1 and t2 the two labellers' shares of ties,
    chance = t1 t2 + (1 - t1)(1 - t2) / 2; without ties it is 1/2.

    By hand: (first, first), (first, first), (second, first), (tie, second), (tie, tie) agree 3 times in 5, t1 = 2/5,
    t2 = 1/5, chance = 2/25 + (3/5)(4/5)/2 = 8/25, kappa = (15/25 - 8/25) / (17/25) = 7/17.
    """
    n = len(pairs)
    if n == 0:
        return Agreement(0, None, None)
    codes = np.array([[_CODES[label] for label in pair] for pair in pairs])
    observed = float((codes[:, 0] == codes[:, 1]).mean())
    both = np.concatenate([codes, -codes])
    return Agreement(n, observed, weighted_kappa(both[:, 0], both[:, 1]) if n >= MINIMUM else None)


def weighted_kappa(
    first: Float[np.ndarray, " N"],
    second: Float[np.ndarray, " N"],
    weights: Weights = "nominal",
    scale: Sequence[float] | None = None,
) -> float | None:
    """Cohen's kappa of two labellers over the items that both rated; chance is that of their own distributions.

    `scale`: the possible ratings, by default those that occur; only its ends matter. None without an item, or where
    chance agreement is 1 (both gave one rating only). Source: Cohen, 1968.
    """
    ratings = _paired(first, second)
    if ratings.shape[1] == 0:
        return None
    values = _values(ratings, scale)
    weight = _weights(values, weights)
    shares = [_counts(row, values) / row.size for row in ratings]
    observed = np.mean([weight[one, other] for one, other in zip(*_indices(ratings, values), strict=True)])
    return _beyond(float(observed), float(shares[0] @ weight @ shares[1]))


def gwet_ac2(
    ratings: Float[np.ndarray, "R N"], weights: Weights = "nominal", scale: Sequence[float] | None = None
) -> float | None:
    """Gwet's AC2 (AC1 if nominal) of R labellers over N items; ratings may be missing.

    Chance is  sum(weights) / (q (q - 1)) * sum_k p_k (1 - p_k)  for q values with mean shares p_k: it stays small where
    nearly all ratings are the same, which is where kappa collapses. `scale`: all q possible ratings; by default those
    that occur. None without an item of two ratings, or with a single value. Source: Gwet, 2008 and 2014.
    """
    rated = ratings[:, ~np.isnan(ratings).all(axis=0)]
    values = _values(rated, scale)
    if len(values) < 2:
        return None
    weight = _weights(values, weights)
    counts = np.stack([_counts(column, values) for column in rated.T])
    by_item = counts.sum(axis=1)
    several = by_item >= 2
    if not several.any():
        return None
    agreeing = (counts * (counts @ weight - 1)).sum(axis=1)[several] / (by_item * (by_item - 1))[several]
    shares = (counts / by_item[:, None]).mean(axis=0)
    chance = weight.sum() / (len(values) * (len(values) - 1)) * (shares * (1 - shares)).sum()
    return _beyond(float(agreeing.mean()), float(chance))


def krippendorff_alpha(ratings: Float[np.ndarray, "R N"], metric: Metric = "nominal") -> float | None:
    """Krippendorff's alpha of R labellers over N items, 1 - observed / expected disagreement; ratings may be missing.

    Disagreement of two ratings c < k: `nominal` 1, `interval` (c - k)^2, `ordinal` the square of the number of ratings
    from c to k, those at both ends counted half. None without an item of two ratings, or if all ratings are equal.
    Source: Krippendorff, Computing Krippendorff's alpha-reliability, 2011.
    """
    paired = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    values = _values(paired, None)
    if len(values) < 2:
        return None
    counts = np.stack([_counts(column, values) for column in paired.T])
    others = counts.sum(axis=1) - 1
    coincidences = (counts / others[:, None]).T @ counts - np.diag((counts / others[:, None]).sum(axis=0))
    totals = coincidences.sum(axis=1)
    if metric == "ordinal":
        middle = np.cumsum(totals) - totals / 2
        distance = np.square(middle[:, None] - middle)
    elif metric == "interval":
        distance = np.square(values[:, None] - values)
    else:
        distance = 1.0 - np.eye(len(values))
    expected = (totals @ distance @ totals) / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected)


def _beyond(observed: float, chance: float) -> float | None:
    return None if np.isclose(chance, 1, rtol=0, atol=1e-12) else (observed - chance) / (1 - chance)


def _paired(first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]) -> Float[np.ndarray, "2 N"]:
    both = np.stack([first, second]).astype(float)
    return both[:, ~np.isnan(both).any(axis=0)]


def _values(ratings: np.ndarray, scale: Sequence[float] | None) -> Float[np.ndarray, " Q"]:
    """The sorted possible ratings. ValueError for a rating that is not on the scale."""
    found = np.unique(ratings[~np.isnan(ratings)])
    if scale is None:
        return found
    values = np.unique(np.array(scale, dtype=float))
    if not np.isin(found, values).all():
        raise ValueError(f"rating {found[~np.isin(found, values)][0]:g} is not on the scale {list(scale)}")
    return values


def _weights(values: Float[np.ndarray, " Q"], kind: Weights) -> Float[np.ndarray, "Q Q"]:
    if kind == "nominal" or len(values) < 2:
        return np.eye(len(values))
    distance = np.abs(values[:, None] - values) / np.ptp(values)
    return 1 - (distance if kind == "linear" else np.square(distance))


def _indices(ratings: np.ndarray, values: Float[np.ndarray, " Q"]) -> np.ndarray:
    return np.searchsorted(values, ratings)


def _counts(row: np.ndarray, values: Float[np.ndarray, " Q"]) -> Float[np.ndarray, " Q"]:
    return np.bincount(_indices(row[~np.isnan(row)], values), minlength=len(values)).astype(float)
