"""Metrics of the ALOE benchmark: the figures of `figures.py`, each with a two-way bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from etils import epath
from pydantic import Field, model_validator

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Record
from eval.benchmark.figures import Figures, figures, is_flat
from eval.benchmark.scores import ScoreRecord, ScoreTable, read_scores, score_table
from eval.benchmark.settings import MOST_RESAMPLES
from eval.benchmark.statistics import percentile_interval, two_way_weights, weighted_means

Interval = tuple[float, float] | None


class Bootstrap(Record):
    """How the intervals were made."""

    resamples: int = Field(ge=0, le=MOST_RESAMPLES)
    seed: int
    level: float = Field(gt=0, lt=1)
    profiles: int
    personalities: int
    flat: int  # resamples with a flat curve: they have no R2, N_IR and N_R2, and are left out of their intervals
    empty: int  # resamples with a turn in which nothing was scored: they are left out wherever that turn is needed


class Metrics(Figures[float | None]):
    """Content of `metrics.json`. `AL` and `average` are in points of the judge's scale, `IR` in points per turn,
    `N_IR` in shares of the curve's own range per turn. Null: undefined (flat curve, one turn only, a turn with nothing
    scored)."""

    ci: Figures[Interval]  # percentile intervals [low, high]; null without a figure
    cases: int
    unscored: int
    turns: int
    bootstrap: Bootstrap

    @model_validator(mode="after")
    def _check(self) -> Metrics:
        if not len(self.AL) == len(self.ci.AL) == self.turns:
            raise ValueError(f"AL has {len(self.AL)} values and {len(self.ci.AL)} intervals for {self.turns} turns")
        return self


def metrics(scores: Sequence[ScoreRecord], resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Metrics:
    """Figures of one model with two-way bootstrap intervals (`statistics.py`).

    Unscored replies are left out of the means and counted. Intervals are null if there is only one profile and
    one personality. Raises InputError as `score_table` does.
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

    Both models are resampled alike, so shared effects (an easy profile, a stern personality) cancel. A reply counts
    only if both models have a score; `unscored` is the number of pairs left out. Raises InputError if the two are not
    over the same cases and turns.
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


def metrics_file(path: epath.PathLike, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> dict[str, object]:
    """The content of `metrics.json` for a `scores.jsonl`, as `aloe metrics` prints it. Raises InputError."""
    return metrics(read_scores(path), resamples, seed, level).model_dump(mode="json")


def _with_intervals(tables: Sequence[ScoreTable], resamples: int, seed: int, level: float) -> Metrics:
    """Figures of the first table, minus those of the second if there is one, resampled together."""
    table = tables[0]
    unscored = np.any([np.isnan(each.scores) for each in tables], axis=0)
    weights = two_way_weights(table.profiles, table.personalities, resamples, seed)
    all_cases = np.ones((1, len(table.cases)))
    curves = []  # row 0: the curve over all cases; then one per resample
    for each in tables:
        values = np.where(unscored, np.nan, each.scores)
        curves.append(weighted_means(values, np.concatenate([all_cases, weights])))
    rows = _difference([figures(curve) for curve in curves])
    varies = max(table.levels) > 1

    def interval(values: np.ndarray) -> Interval:
        """Of a figure in row 0 by its resamples in the other rows."""
        return percentile_interval(values[1:], level) if varies and _number(values[0]) is not None else None

    turns = rows.pop("AL").T
    return Metrics(
        AL=tuple(_number(column[0]) for column in turns),
        **{name: _number(row[0]) for name, row in rows.items()},
        ci=Figures[Interval](
            AL=tuple(interval(column) for column in turns), **{name: interval(row) for name, row in rows.items()}
        ),
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


def _number(value: float) -> float | None:
    """A number as a Python float, NaN as None."""
    return None if np.isnan(value) else float(value)
