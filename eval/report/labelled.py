"""The judge against labels on the page: corrected averages beside the raw ones, agreement, and why there are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from data_gen.world.judge import ScriptedJudge
from eval.benchmark.calibration import Calibration, Refusal
from eval.benchmark.dialogues import OVERALL, replies_of
from eval.benchmark.metrics import ScaleMetrics
from eval.benchmark.scores import Scale
from eval.report.reading import ModelResult
from eval.report.tables import Cell, Grid, Row, decimal, with_interval

# What is said of a judge and its labels: name on the page, field of `Calibration`.
AGREEMENT = (
    ("Weighted kappa", "weighted_kappa"),
    ("Gwet's AC2", "gwet_ac2"),
    ("Krippendorff's alpha", "krippendorff_alpha"),
    ("Alpha of the labellers among each other", "between"),
)


def corrected_row(results: Sequence[tuple[str, str, ScaleMetrics]]) -> Row | None:
    """The average corrected by labels, a cell per result; None if no result has labels."""
    if all(found.corrected is None for *_, found in results):
        return None
    return Row("Average AL, corrected by labels", tuple(_corrected(found.corrected) for *_, found in results))


def _corrected(made: Calibration | Refusal | None) -> Cell:
    if made is None:
        return Cell("–", ("no labels",))
    if isinstance(made, Refusal):
        return Cell("refused", ("reason below",))
    cell = with_interval(made.average.corrected, made.average.interval, 2)
    return Cell(cell.value, (*cell.remarks, f"{made.labelled} labels"))


def refusals(results: Sequence[tuple[str, str, ScaleMetrics]]) -> tuple[str, ...]:
    """A sentence for each result whose labels correct nothing."""
    return tuple(
        f"{words} is not corrected by the labels of {found.corrected.labels}: {found.corrected.refused}."
        for words, _, found in results
        if isinstance(found.corrected, Refusal)
    )


def agreement_grid(results: Mapping[Scale, Sequence[tuple[str, str, ScaleMetrics]]]) -> Grid | None:
    """How far each judge agrees with the labels, a column per result and scale that has some; None without any."""
    made = [
        (f"{words}, {scale}", css, found.corrected)
        for scale, shown in results.items()
        for words, css, found in shown
        if isinstance(found.corrected, Calibration)
    ]
    if not made:
        return None
    rows = [
        Row("Labels", tuple(Cell(str(each.labelled), (f"from {each.labels}",)) for *_, each in made)),
        Row(
            "Judge minus labels, mean",
            tuple(Cell(decimal(each.average.raw - each.average.corrected, 2, True)) for *_, each in made),
        ),
    ]
    for name, field in AGREEMENT:
        values = [getattr(each, field) for *_, each in made]
        if any(value is not None for value in values):
            rows.append(Row(name, tuple(Cell("–" if value is None else decimal(value, 2)) for value in values)))
    return Grid("The judge against labels", tuple((words, css) for words, css, _ in made), tuple(rows))


def unlabelled(results: Iterable[ModelResult]) -> str:
    """Why there are no corrected scores at all; empty if a result has labels, or if there is no score."""
    scored = [each for each in results if each.metrics is not None]
    if not scored or any(each.truth is not None for each in scored):
        return ""
    judges = {
        score.judge
        for each in scored
        for tree in each.trees
        for node in replies_of(tree)
        for score in node.scores
        if score.criterion == OVERALL
    }
    if judges == {ScriptedJudge.name}:
        return "The scripted judge is the truth of the scripted world, so its scores need no correction."
    return (
        "These are the judge's own scores: no reply has been rated by people, so there are no corrected ones. "
        "`aloe view` offers a random sample of the replies to rate."
    )
