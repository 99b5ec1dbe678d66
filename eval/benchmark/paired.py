"""Paired differences of two models over the same cases: estimate, interval, p value, and what the cases can show.

Effects that both models share (an easy profile, a stern personality) cancel in the difference of each case; its
variance is that of `crossed.py`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.special import stdtrit

from aloe_jax.tree.schema import Record
from eval.benchmark.crossed import (
    Linearised,
    average_weights,
    components,
    layout_of,
    linear,
    planned_variance,
    slope_weights,
    turn_weights,
    variance,
)
from eval.benchmark.scores import ScoreTable, paired_table

LARGEST = 20_000  # levels of a factor up to which the needed cases are searched


class Difference(Record):
    """A paired difference, first model minus second. All but the estimate are null with a single cell of cases."""

    estimate: float
    interval: tuple[float, float] | None
    error: float | None = Field(description="standard error")
    df: float | None = Field(description="degrees of freedom of the t quantile")
    p: float | None = Field(description="two-sided, for no difference")
    detectable: float | None = Field(description="the smallest true difference that these cases find with the power")
    cases_needed: int | None = Field(
        description="cases with which the observed difference would be found with the power; null: none, or too many"
    )


class PairedDifference(Record):
    """The paired differences of two models. A reply counts if both have a score. Null: undefined (a turn without
    scores; IR of one turn)."""

    AL: tuple[Difference | None, ...]  # by turn
    average: Difference | None
    IR: Difference | None
    length_controlled: Difference | None
    cases: int
    unscored: int  # pairs of replies that are left out
    level: float
    power: float


def paired_difference(
    first: ScoreTable,
    second: ScoreTable,
    *,
    lengths: tuple[Float[np.ndarray, "N K"], Float[np.ndarray, "N K"]] | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> PairedDifference:
    """Differences `first` minus `second` of two tables over the same cases.

    `lengths`: the words of each model's replies in the order of the tables, NaN where unknown; with them the average
    difference at equal length is estimated too. Raises InputError as `paired_table` does.
    """
    table = paired_table(first, second)
    turns = table.scores.shape[1]

    def of(found: Linearised | None) -> Difference | None:
        return None if found is None else _difference(found, level, power)

    return PairedDifference(
        AL=tuple(of(linear(table, turn_weights(turn, turns))) for turn in range(1, turns + 1)),
        average=of(linear(table, average_weights(turns))),
        IR=of(linear(table, slope_weights(turns))) if turns > 1 else None,
        length_controlled=None if lengths is None else of(length_controlled(table, lengths[0] - lengths[1])),
        cases=len(table.cases),
        unscored=int(np.isnan(table.scores).sum()),
        level=level,
        power=power,
    )


def length_controlled(differences: ScoreTable, longer: Float[np.ndarray, "N K"]) -> Linearised | None:
    """The mean score difference at equal length: the intercept of the least-squares line of the score differences of
    replies through `longer`, the words by which the first model's reply is longer. None where the lengths do not vary.

    The influence of a reply on the intercept is its residual times its row of (X^T X)^-1 X^T.
    """
    used = ~np.isnan(differences.scores) & ~np.isnan(longer)
    scores, words = differences.scores[used], longer[used]
    if words.size == 0 or np.ptp(words) == 0:
        return None
    centred = words - words.mean()
    slope = centred @ scores / (centred @ centred)
    intercept = float(scores.mean() - slope * words.mean())
    per_reply = np.zeros(longer.shape)
    leverage = 1 / words.size - words.mean() * centred / (centred @ centred)
    per_reply[used] = leverage * (scores - intercept - slope * words)
    kept = used.any(axis=1)
    layout = layout_of(differences.profiles[kept], differences.personalities[kept])
    return Linearised(intercept, layout, per_reply[kept].sum(axis=1) * int(kept.sum()))


def _difference(found: Linearised, level: float, power: float) -> Difference:
    made = found.estimate()
    if (interval := made.interval(level)) is None:
        return Difference(
            estimate=made.value, interval=None, error=None, df=None, p=None, detectable=None, cases_needed=None
        )
    return Difference(
        estimate=made.value,
        interval=interval,
        error=made.error,
        df=made.df,
        p=made.p_value(),
        detectable=float(_reach(made.df, level, power)) * made.error,
        cases_needed=cases_needed(found, level, power),
    )


def _reach(df: Float[np.ndarray, "*S"] | float, level: float, power: float) -> np.ndarray:
    """How many standard errors a true difference must have to be found with the power."""
    return stdtrit(df, (1 + level) / 2) + stdtrit(df, power)


def cases_needed(found: Linearised, level: float = 0.95, power: float = 0.8) -> int | None:
    """The cases with which the observed difference, if it is the true one, would be found with the power.

    Profiles and personalities are added in the proportion of the layout, every crossing complete, with the variance
    components that were estimated; a factor with one level keeps it. None: no difference, or more than `LARGEST`
    levels of the larger factor are needed.
    """
    if found.value == 0 or found.layout.profiles.size < 2:
        return None
    parts = components(found.layout, found.influences)
    levels = found.layout.levels
    sizes = np.arange(2, LARGEST + 1)
    if parts is None:
        now, _ = variance(found.layout, found.influences)
        clusters = max(levels)
        needed, df = now * clusters / sizes, sizes - 1.0
        cases = np.ceil(sizes * found.influences.size / clusters)
    else:
        share = min(levels) / max(levels)
        other = np.maximum(2, np.ceil(share * sizes - 1e-9))
        profiles, personalities = (sizes, other) if levels[0] >= levels[1] else (other, sizes)
        cases = profiles * personalities
        needed, df = planned_variance(parts, profiles, personalities)
    enough = _reach(df, level, power) * np.sqrt(needed) <= abs(found.value)
    return int(cases[enough.argmax()]) if enough.any() else None
