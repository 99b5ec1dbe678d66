"""Judge scores corrected by labels of known truth, with an interval over the test and the calibration set.

The labels (people's, or the scripted world's) are of a random sample of the judged replies. Estimates are linearised:
a case's influence is that of its judged replies plus that of its labelled ones, so both sets share profiles and
personalities as they do in the data, and the variance is that of `crossed.py`.

Binary, with p the share judged good, q1 the judge's sensitivity and q0 its specificity (arXiv 2511.21140):

    theta = (p + q0 - 1) / (q0 + q1 - 1)

Its interval holds the theta in 0..1 whose  g(theta) = p + q0 - 1 - theta (q0 + q1 - 1)  is zero within the t quantile
(Fieller's theorem): unlike the delta method it widens as the judge gets worse. Graded: the judge's mean minus the mean
of (judge - label) over the labelled replies (prediction-powered inference, arXiv 2301.09633).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field
from scipy.special import stdtrit

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Record
from eval.benchmark.crossed import Linearised, average_weights, linear, variance
from eval.benchmark.scores import ScoreTable

GRID = np.linspace(0.0, 1.0, 201)  # of theta; the ends of the interval are interpolated between its points

Kind = Literal["binary", "graded"]


class Corrected(Record):
    """A mean score as judged and as corrected. Intervals are null over a single cell of cases."""

    kind: Kind
    raw: float
    raw_interval: tuple[float, float] | None
    corrected: float
    interval: tuple[float, float] | None
    labelled: int  # replies with a judge's score and a label
    sensitivity: float | None = Field(description="q1: share of truly good replies judged good; binary only")
    specificity: float | None = Field(description="q0: share of truly bad replies judged bad; binary only")
    level: float


def corrected(table: ScoreTable, labels: Float[np.ndarray, "N K"], kind: Kind, level: float = 0.95) -> Corrected:
    """The average of a table corrected by `labels`, in the order of the table, NaN where a reply has none.

    Raises InputError if a turn has no score, if fewer than two judged replies have a label, and for binary scores if
    one is neither 0 nor 1, if the labels are all good or all bad, and if q0 + q1 <= 1.
    """
    if labels.shape != table.scores.shape:
        raise InputError(f"labels have the shape {labels.shape}, expected that of the scores, {table.scores.shape}")
    raw = linear(table, average_weights(table.scores.shape[1]))
    if raw is None:
        raise InputError("a turn has no scored reply, so there is no average to correct; judge its replies again")
    kept = ~np.isnan(table.scores).all(axis=1)  # the cases in the layout of `raw`
    scores, labels = table.scores[kept], labels[kept]
    used = ~np.isnan(labels) & ~np.isnan(scores)
    if (count := int(used.sum())) < 2:
        raise InputError(f"{count} judged replies have a label, expected at least 2; label more of them")
    made = raw.estimate()
    if kind == "graded":
        bias, of_bias = _mean(scores - labels, used)
        found = Linearised(raw.value - bias, raw.layout, raw.influences - of_bias).estimate()
        value, interval = found.value, found.interval(level)
        specificity = sensitivity = None
    else:
        value, interval, (specificity, sensitivity) = _binary(raw, scores, labels, used, level)
    return Corrected(
        kind=kind,
        raw=raw.value,
        raw_interval=made.interval(level),
        corrected=value,
        interval=interval,
        labelled=count,
        sensitivity=sensitivity,
        specificity=specificity,
        level=level,
    )


def _mean(values: Float[np.ndarray, "N K"], used: Bool[np.ndarray, "N K"]) -> tuple[float, Float[np.ndarray, " N"]]:
    """The mean of the values that are used, and the influence of each case on it."""
    mean = float(values[used].mean())
    return mean, np.where(used, values - mean, 0.0).sum(axis=1) * (len(values) / used.sum())


def _binary(
    raw: Linearised,
    scores: Float[np.ndarray, "N K"],
    labels: Float[np.ndarray, "N K"],
    used: Bool[np.ndarray, "N K"],
    level: float,
) -> tuple[float, tuple[float, float] | None, tuple[float, float]]:
    """theta cut to 0..1, its interval, and (q0, q1)."""
    for name, values in (("scores", scores[~np.isnan(scores)]), ("labels", labels[used])):
        if not np.isin(values, (0.0, 1.0)).all():
            raise InputError(f"{name} hold {values[~np.isin(values, (0, 1))][0]:g}, expected 0 or 1 for kind='binary'")
    good, bad = used & (labels == 1), used & (labels == 0)
    if not good.any() or not bad.any():
        raise InputError(
            f"{int(good.sum())} labelled replies are good and {int(bad.sum())} bad, expected some of both to know the "
            "judge's error rates; label more replies"
        )
    (specificity, of_bad), (sensitivity, of_good) = _mean(1 - scores, bad), _mean(scores, good)
    told = specificity + sensitivity - 1
    if told <= 0:
        raise InputError(
            f"the judge's specificity {specificity:.3f} and sensitivity {sensitivity:.3f} add up to at most 1: its "
            "scores say nothing of the truth and cannot be corrected; use another judge"
        )
    value = float(np.clip((raw.value + specificity - 1) / told, 0, 1))
    g = raw.value + specificity - 1 - GRID * told
    squares, df = variance(raw.layout, raw.influences + np.outer(1 - GRID, of_bad) - np.outer(GRID, of_good))
    if np.isnan(squares).any():
        return value, None, (specificity, sensitivity)
    excess = np.abs(g) - stdtrit(df, (1 + level) / 2) * np.sqrt(squares)
    return value, _where_negative(excess, value), (specificity, sensitivity)


def _where_negative(excess: Float[np.ndarray, " G"], inside: float) -> tuple[float, float]:
    """The first and the last point of the grid's range with `excess` up to 0, the line between points being straight;
    `inside` is such a point."""
    holds = np.flatnonzero(excess <= 0)
    if holds.size == 0:
        return inside, inside
    first, last = holds[0], holds[-1]
    low, high = GRID[first], GRID[last]
    if first > 0:
        low = np.interp(0.0, [excess[first], excess[first - 1]], [GRID[first], GRID[first - 1]])
    if last < GRID.size - 1:
        high = np.interp(0.0, [excess[last], excess[last + 1]], [GRID[last], GRID[last + 1]])
    return min(float(low), inside), max(float(high), inside)
