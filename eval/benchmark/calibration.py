"""A judge held against labels of the same replies: how far it agrees with them, and scores that they correct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Record
from data_gen.agreement import gwet_ac2, krippendorff_alpha, weighted_kappa
from eval.benchmark.corrected import Corrected, corrected
from eval.benchmark.labels import Label
from eval.benchmark.scores import Scale, ScoreTable

GRADES = (1.0, 2.0, 3.0, 4.0, 5.0)
LARGEST = 1e100


class Calibration(Record):
    """The judge against the labels: `labelled` replies have both. Kappa and AC2 (quadratic weights) are of whole
    grades, to which expected scores are rounded, alpha (interval) of the scores as they are; `between` is alpha among
    the labellers. Null where a coefficient is not defined. `average` is the average score, raw and corrected."""

    labels: str  # the file or the result that the labels are from
    labelled: int
    labellers: int
    weighted_kappa: float | None
    krippendorff_alpha: float | None
    gwet_ac2: float | None
    between: float | None
    average: Corrected


class Refusal(Record):
    """Why labels correct nothing."""

    labels: str
    refused: str


def calibrate(
    table: ScoreTable, labels: Sequence[Label], scale: Scale = "shown", level: float = 0.95, source: str = ""
) -> Calibration:
    """The agreement of a table's scores with the labels of `source` on a scale, and the average corrected by them.

    Raises InputError for a label of a reply that is not in the table, for two of one labeller, and as `corrected` does.
    """
    each = _by_labeller(table, [label for label in labels if label.on(scale) is not None], scale)
    rated = ~np.isnan(each)
    truth = np.full(table.scores.shape, np.nan)
    np.divide(np.nansum(each, axis=0), rated.sum(axis=0), out=truth, where=rated.any(axis=0))
    both = ~np.isnan(truth) & ~np.isnan(table.scores)
    pair = np.stack([table.scores[both], truth[both]])
    if np.nanmax(np.abs([*table.scores.ravel(), *truth.ravel()]), initial=0.0) > LARGEST:
        raise InputError(f"scores or labels exceed {LARGEST:g}, so that their squares overflow; give grades")
    binary = np.isin(table.scores[~np.isnan(table.scores)], (0, 1)).all() and np.isin(truth[both], (0, 1)).all()
    average = corrected(table, truth, "binary" if binary else "graded", level)
    grades = np.rint(pair)
    possible = GRADES if np.isin(grades, GRADES).all() else None
    return Calibration(
        labels=source,
        labelled=average.labelled,
        labellers=len(each),
        weighted_kappa=weighted_kappa(grades[0], grades[1], "quadratic", possible),
        krippendorff_alpha=krippendorff_alpha(pair, "interval"),
        gwet_ac2=gwet_ac2(grades, "quadratic", possible),
        between=krippendorff_alpha(each.reshape(len(each), -1), "interval") if len(each) > 1 else None,
        average=average,
    )


def _by_labeller(table: ScoreTable, labels: Sequence[Label], scale: Scale) -> Float[np.ndarray, "L N K"]:
    """The labels of each labeller in the layout of the table, NaN where there is none."""
    names = {name: place for place, name in enumerate(sorted({label.labeller for label in labels}))}
    cases = {case: place for place, case in enumerate(table.cases)}
    found = np.full((len(names), *table.scores.shape), np.nan)
    for label in labels:
        if label.case not in cases or label.turn > table.scores.shape[1]:
            raise InputError(
                f"case '{label.case}' turn {label.turn} is labelled but not among the scores; label replies of that "
                "file"
            )
        place = names[label.labeller], cases[label.case], label.turn - 1
        if not np.isnan(found[place]):
            who = f" by '{label.labeller}'" if label.labeller else ""
            raise InputError(f"case '{label.case}' turn {label.turn} is labelled twice{who}; keep one line of it")
        found[place] = label.on(scale)
    return found
