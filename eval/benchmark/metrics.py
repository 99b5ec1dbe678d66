"""Metrics of the ALOE benchmark: the figures of `figures.py`, each with an interval.

The average and IR are linear in the scores; their intervals come from variance components (`crossed.py`). The other
figures are not, and the levels by turn are drawn as a band: theirs come from a two-way bootstrap (`statistics.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from aloe_jax.tree.schema import Record
from eval.benchmark.belief import BeliefMetrics, belief_metrics
from eval.benchmark.calibration import Calibration, Refusal
from eval.benchmark.crossed import average_weights, linear, slope_weights
from eval.benchmark.figures import Figures, figures, is_flat
from eval.benchmark.restraint import TurnKind
from eval.benchmark.scores import Scale, ScoreRecord, ScoreTable, carries_persona, score_table
from eval.benchmark.settings import MOST_RESAMPLES
from eval.benchmark.statistics import percentile_interval, two_way_weights, weighted_means

Interval = tuple[float, float] | None
Method = Literal["variance components", "bootstrap"]
LINEAR = ("average", "IR")
OPTIONAL = ("corrected", "persona", "belief", "by_turn_kind")
METHODS: Mapping[str, Method] = {
    name: "variance components" if name in LINEAR else "bootstrap" for name in Figures.model_fields
}


class Bootstrap(Record):
    """How the intervals were made."""

    resamples: int = Field(ge=0, le=MOST_RESAMPLES)
    seed: int
    level: float = Field(gt=0, lt=1)
    profiles: int
    personalities: int
    flat: int  # resamples with a flat curve: they have no R2, N_IR and N_R2, and are left out of their intervals
    empty: int  # resamples with a turn in which nothing was scored: they are left out wherever that turn is needed
    methods: dict[str, Method] = Field(default={}, description="by figure; empty: all intervals from the bootstrap")


class ScaleMetrics(Figures[float | None]):
    """The metrics on one scale. `AL` and `average` are in points of the judge's scale, `IR` in points per turn,
    `N_IR` in shares of the curve's own range per turn. Null: undefined (flat curve, one turn only, a turn with nothing
    scored)."""

    ci: Figures[Interval]  # [low, high], by `bootstrap.methods`; null without a figure
    cases: int
    unscored: int
    turns: int
    bootstrap: Bootstrap
    corrected: Calibration | Refusal | None = None  # by labels, beside the raw figures; null: no labels on this scale

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without what is `OPTIONAL` where there is none."""
        content: dict[str, object] = write(self)
        return {key: value for key, value in content.items() if value is not None or key not in OPTIONAL}

    @model_validator(mode="after")
    def _check(self) -> ScaleMetrics:
        if not len(self.AL) == len(self.ci.AL) == self.turns:
            raise ValueError(f"AL has {len(self.AL)} values and {len(self.ci.AL)} intervals for {self.turns} turns")
        return self


class Metrics(ScaleMetrics):
    """Content of `metrics.json`: the metrics on the scale `shown`, those on the scale `persona` where the replies have
    such scores, those of the beliefs where the model was asked for them, and figures by kind of turn (`restraint`)."""

    persona: ScaleMetrics | None = None
    belief: BeliefMetrics | None = None
    by_turn_kind: dict[str, TurnKind] | None = None  # null: all turns are ordinary ones


def metrics(scores: Sequence[ScoreRecord], resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Metrics:
    """Figures of one model with intervals, on both scales.

    Unscored replies are left out of the means and counted. Intervals are null if there is only one profile and
    one personality. Raises InputError as `score_table` does.
    """
    shown = on_scale(scores, "shown", resamples, seed, level)
    persona = on_scale(scores, "persona", resamples, seed, level) if carries_persona(scores) else None
    beliefs = [(each.profile, each.personality, each.turn, each.belief) for each in scores if each.belief is not None]
    return Metrics(**dict(shown), persona=persona, belief=belief_metrics(beliefs, resamples, seed, level))


def on_scale(
    scores: Sequence[ScoreRecord], scale: Scale, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> ScaleMetrics:
    """The metrics of one model on one scale."""
    return _with_intervals(score_table(scores, scale=scale), resamples, seed, level)


def _with_intervals(table: ScoreTable, resamples: int, seed: int, level: float) -> ScaleMetrics:
    """Figures of a table; the resamples of all figures are the same."""
    weights = two_way_weights(table.profiles, table.personalities, resamples, seed)
    all_cases = np.ones((1, len(table.cases)))
    curves = weighted_means(table.scores, np.concatenate([all_cases, weights]))  # row 0: all cases; then the resamples
    rows = figures(curves)
    varies = max(table.levels) > 1

    def interval(values: np.ndarray) -> Interval:
        """Of a figure in row 0 by its resamples in the other rows."""
        return percentile_interval(values[1:], level) if varies and _number(values[0]) is not None else None

    exact = _linear_intervals(table, level)
    turns = rows.pop("AL").T
    return ScaleMetrics(
        AL=tuple(_number(column[0]) for column in turns),
        **{name: _number(row[0]) for name, row in rows.items()},
        ci=Figures[Interval](
            AL=tuple(interval(column) for column in turns),
            **{name: exact[name] if name in LINEAR else interval(row) for name, row in rows.items()},
        ),
        cases=len(table.cases),
        unscored=int(np.isnan(table.scores).sum()),
        turns=table.scores.shape[1],
        bootstrap=Bootstrap(
            resamples=resamples,
            seed=seed,
            level=level,
            profiles=table.levels[0],
            personalities=table.levels[1],
            flat=int(is_flat(curves[1:]).sum()),
            empty=int(np.isnan(curves[1:]).any(axis=-1).sum()),
            methods=dict(METHODS),
        ),
        corrected=None,
    )


def _linear_intervals(table: ScoreTable, level: float) -> dict[str, Interval]:
    """The intervals of the average and of IR by variance components."""
    turns = table.scores.shape[1]
    found = {"average": linear(table, average_weights(turns))}
    found["IR"] = linear(table, slope_weights(turns)) if turns > 1 else None
    return {name: None if each is None else each.estimate().interval(level) for name, each in found.items()}


def _number(value: float) -> float | None:
    """A number as a Python float, NaN as None."""
    return None if np.isnan(value) else float(value)
