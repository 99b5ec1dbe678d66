"""Figures of the ALOE benchmark: alignment level per turn, its average and its trend, each with an interval.

With s[i, k] the score of case i at turn k: AL(k) = mean_i s[i, k]; the average is the mean of AL over the turns; IR
and R2 are slope and coefficient of determination of the least-squares line through AL(1..K); N-IR and N-R2 are the same
after AL is stretched to 0..1. N-R2 always equals R2, and N-IR does not depend on the size of the gain, so neither
stands without AL and IR beside it. Source: paper, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Record
from eval.benchmark.scores import ScoreRecord, ScoreTable, read_scores, score_table
from eval.benchmark.statistics import percentile_interval, two_way_weights, weighted_means

# A curve counts as flat when it varies by less than this share of its own size: far above the rounding of a mean of
# thousands of scores (N x 2.2e-16), far below the smallest real step (one score of one case).
FLATNESS = 1e-10

Interval = tuple[float, float] | None


class Intervals(Record):
    """Percentile intervals [low, high] of the figures of the same name; null where there is no figure."""

    AL: tuple[Interval, ...]
    average: Interval
    IR: Interval
    R2: Interval
    N_IR: Interval
    N_R2: Interval


class Bootstrap(Record):
    """How the intervals were made."""

    resamples: int
    seed: int
    level: float
    profiles: int
    personalities: int
    flat: int  # resamples with a flat curve: they have no R2, N_IR, N_R2 and are left out there
    empty: int  # resamples with a turn in which nothing was scored: they are left out wherever that turn is needed


class Metrics(Record):
    """Content of `metrics.json`. `AL`, `average` in points of the judge's scale, `IR` in points a turn, `N_IR` in
    shares of the curve's own range a turn. Null: undefined (flat curve, one turn only, a turn with nothing scored)."""

    AL: tuple[float | None, ...]
    average: float | None
    IR: float | None
    R2: float | None
    N_IR: float | None
    N_R2: float | None
    ci: Intervals
    cases: int
    unscored: int
    turns: int
    bootstrap: Bootstrap


def is_flat(curves: Float[np.ndarray, "*S K"]) -> np.ndarray:
    """Whether each curve stays at one level (up to rounding)."""
    spread = curves.max(axis=-1) - curves.min(axis=-1)
    return spread <= FLATNESS * np.abs(curves).max(axis=-1)


def improvement_rate(curves: Float[np.ndarray, "*S K"]) -> Float[np.ndarray, "*S"]:
    """IR: slope of the least-squares line through each curve over turns 1..K, in points a turn; NaN if K is 1."""
    turns = np.arange(curves.shape[-1]) - (curves.shape[-1] - 1) / 2
    if turns.size < 2:
        return np.full(curves.shape[:-1], np.nan)
    return curves @ turns / (turns @ turns)


def r_squared(curves: Float[np.ndarray, "*S K"]) -> Float[np.ndarray, "*S"]:
    """R2: share of each curve's variance that its least-squares line explains, 0 to 1; NaN if flat."""
    turns = np.arange(curves.shape[-1]) - (curves.shape[-1] - 1) / 2
    centred = curves - curves.mean(axis=-1, keepdims=True)
    total = np.where(is_flat(curves), np.nan, np.square(centred).sum(axis=-1))
    share = np.square(improvement_rate(curves)) * (turns @ turns) / total
    return np.minimum(share, 1.0)  # rounding may pass 1


def normalised(curves: Float[np.ndarray, "*S K"]) -> Float[np.ndarray, "*S K"]:
    """N-AL: each curve stretched so that its lowest turn is 0 and its highest is 1; NaN if flat."""
    low = curves.min(axis=-1, keepdims=True)
    spread = np.where(is_flat(curves), np.nan, curves.max(axis=-1) - low[..., 0])
    return (curves - low) / spread[..., None]


def figures(curves: Float[np.ndarray, "*S K"]) -> dict[str, np.ndarray]:
    """All figures of each curve of alignment levels, NaN where undefined: `AL` [*S, K], the others [*S]."""
    stretched = normalised(curves)
    return {
        "AL": curves,
        "average": curves.mean(axis=-1),
        "IR": improvement_rate(curves),
        "R2": r_squared(curves),
        "N_IR": improvement_rate(stretched),
        "N_R2": r_squared(stretched),
    }


def metrics(scores: Sequence[ScoreRecord], resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Metrics:
    """Figures of one model with two-way bootstrap intervals (`eval.benchmark.statistics`).

    Unscored replies are left out of the means and counted. Intervals are null if there is one profile and one
    personality only. Raises InputError as `score_table` does.
    """
    return _with_intervals([score_table(scores)], resamples, seed, level)


def compare(
    scores: Sequence[ScoreRecord],
    baseline: Sequence[ScoreRecord],
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Metrics:
    """Paired difference of every figure, `scores` minus `baseline`, with intervals.

    Both models are resampled alike, so what they share (an easy profile, a stern personality) cancels. A reply counts
    only where both models have a score; `unscored` is the number of pairs left out. Raises InputError if the two are
    not over the same cases and turns.
    """
    first, second = score_table(scores), score_table(baseline)
    if first.cases != second.cases:
        odd = sorted(set(first.cases) ^ set(second.cases))
        raise InputError(f"cannot compare two models over different cases: '{odd[0]}' is in one of them only")
    if first.scores.shape != second.scores.shape:
        raise InputError(
            f"cannot compare two models over {first.scores.shape[1]} and {second.scores.shape[1]} turns; "
            "run both with the same number"
        )
    if not (
        np.array_equal(first.profiles, second.profiles) and np.array_equal(first.personalities, second.personalities)
    ):
        raise InputError("cannot compare two models whose cases of one name have different profiles or personalities")
    return _with_intervals([first, second], resamples, seed, level)


def metrics_file(path: epath.PathLike, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> dict[str, Any]:
    """What `aloe metrics SCORES.jsonl` prints: content of `metrics.json` for a `scores.jsonl`. Raises InputError."""
    return metrics(read_scores(path), resamples, seed, level).model_dump(mode="json")


def _with_intervals(tables: Sequence[ScoreTable], resamples: int, seed: int, level: float) -> Metrics:
    """Figures of the first table, minus those of the second where there is one, resampled together."""
    table = tables[0]
    unscored = np.any([np.isnan(each.scores) for each in tables], axis=0)
    weights = two_way_weights(table.profiles, table.personalities, resamples, seed)
    all_cases = np.ones((1, len(table.cases)))
    curves = []  # the curve over all cases in row 0, over each resample below
    for each in tables:
        values = np.where(unscored, np.nan, each.scores)
        curves.append(weighted_means(values, np.concatenate([all_cases, weights])))
    rows = _difference([figures(curve) for curve in curves])
    estimates: dict[str, Any] = {name: _plain(row[0]) for name, row in rows.items()}
    varies = max(table.levels) > 1
    intervals = {
        name: percentile_interval(row[1:], level) if varies and estimates[name] is not None else None
        for name, row in rows.items()
        if name != "AL"
    }
    by_turn = [
        percentile_interval(column[1:], level) if varies and estimates["AL"][turn] is not None else None
        for turn, column in enumerate(rows["AL"].T)
    ]
    return Metrics(
        **estimates,
        ci=Intervals(AL=tuple(by_turn), **intervals),
        cases=len(table.cases),
        unscored=int(unscored.sum()),
        turns=table.scores.shape[1],
        bootstrap=Bootstrap(
            resamples=resamples,
            seed=seed,
            level=level,
            profiles=table.levels[0],
            personalities=table.levels[1],
            flat=int(np.any([is_flat(curve[1:]) for curve in curves], axis=0).sum()),
            empty=int(np.any([np.isnan(curve[1:]).any(axis=-1) for curve in curves], axis=0).sum()),
        ),
    )


def _difference(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The only element, or the first minus the second, key by key."""
    if len(rows) == 1:
        return rows[0]
    return {name: rows[0][name] - rows[1][name] for name in rows[0]}


def _plain(value: np.ndarray) -> Any:
    """Numbers as Python floats, NaN as None, a vector as a tuple of them."""
    if np.ndim(value):
        return tuple(_plain(item) for item in value)
    return None if np.isnan(value) else float(value)
