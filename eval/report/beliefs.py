"""What the models say that they have learned about their users, on the page: F1 by turn, figures, what follows a change
of preference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from eval.benchmark.belief import BeliefMetrics, Revision, TurnShares
from eval.report.charts import Series, line_chart
from eval.report.parts import NARROW, WIDE, Shown
from eval.report.tables import Cell, Grid, Row, bracket, count, decimal

FIGURES = (
    ("f1", "F1", "higher is better"),
    ("precision", "Precision", "claims that are right"),
    ("recall", "Recall", "of what users had shown"),
    ("unfounded", "Claims without evidence", "their turn does not show them; lower is better"),
    ("brier", "Brier score", "0 to 1, lower is better"),
    ("calibration_error", "Calibration error", "0 to 1, lower is better"),
)
SHARES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


@dataclass(frozen=True)
class BeliefPart:
    """What the page shows. `revision` is None where no user changes a preference."""

    curves: tuple[Markup, Markup]
    figures: Grid
    turns: Grid
    revision: Grid | None
    notes: tuple[str, ...]


def belief_part(shown: Mapping[str, Shown]) -> BeliefPart | None:
    """The part for the results whose models were asked; None without any."""
    asked = {
        name: metrics.belief
        for name, each in shown.items()
        if (metrics := each.result.metrics) is not None and metrics.belief is not None
    }
    if not asked:
        return None
    heads = tuple((shown[name].words, shown[name].style.css) for name in asked)
    return BeliefPart(
        (_chart(shown, asked, WIDE), _chart(shown, asked, NARROW)),
        _figures(asked, heads),
        _turns(asked, heads),
        _revision(asked, heads),
        tuple(note for name, found in asked.items() if (note := _note(shown[name].words, found))),
    )


def _chart(shown: Mapping[str, Shown], asked: Mapping[str, BeliefMetrics], size: tuple[int, int]) -> Markup:
    series = [
        Series(
            name=shown[name].words,
            css=shown[name].style.css,
            x=[turn.turn for turn in found.turns],
            y=[turn.f1 for turn in found.turns],
            band=[turn.f1_interval for turn in found.turns],
            marker=shown[name].style.marker,
        )
        for name, found in asked.items()
    ]
    said = "; ".join(f"{each.name} {', '.join(decimal(value, 2) for value in each.y)}" for each in series)
    turns = sorted({turn.turn for found in asked.values() for turn in found.turns})
    return line_chart(
        series,
        title=f"F1 of what the model says it has learned, by turn: {said}",
        x_label="turn of the conversation",
        size=size,
        y_ticks=SHARES,
        x_ticks=turns,
    )


def _share(value: float | None) -> Cell:
    return Cell("–" if value is None else decimal(value, 2))


def _figures(asked: Mapping[str, BeliefMetrics], heads: tuple[tuple[str, str], ...]) -> Grid:
    rows = tuple(
        Row(label, tuple(_share(getattr(found.overall, key)) for found in asked.values()), note)
        for key, label, note in FIGURES
    )
    return Grid("Over all turns", heads, rows)


def _turns(asked: Mapping[str, BeliefMetrics], heads: tuple[tuple[str, str], ...]) -> Grid:
    by_turn = [{turn.turn: turn for turn in found.turns} for found in asked.values()]
    numbers = sorted({number for each in by_turn for number in each})
    rows = tuple(Row(f"F1({number})", tuple(_turn(each.get(number)) for each in by_turn)) for number in numbers)
    return Grid("F1 by turn, and what it is made of", heads, rows)


def _turn(found: TurnShares | None) -> Cell:
    if found is None:
        return Cell("–")
    parts = ("precision", "recall", "unfounded", "brier")
    said = ", ".join(f"{name} {_share(getattr(found, name)).value}" for name in parts)
    interval = bracket(found.f1_interval, 2)
    return Cell(_share(found.f1).value, (interval, said) if interval else (said,))


def _revision(asked: Mapping[str, BeliefMetrics], heads: tuple[tuple[str, str], ...]) -> Grid | None:
    by_turn = [{each.since: each for each in found.revision} for found in asked.values()]
    rows = []
    for since in sorted({number for each in by_turn for number in each}):
        here = [each.get(since) for each in by_turn]
        users = max(each.cases for each in here if each)
        later = "in that turn" if since == 0 else f"{since} turn{'s' if since > 1 else ''} later"
        cells = tuple(_revised(each) if each else Cell("–") for each in here)
        rows.append(Row(later, cells, f"{count(users)} user{'s' if users > 1 else ''}"))
    caption = "After a user changes a preference: the new setting is named and the old one is not"
    return Grid(caption, heads, tuple(rows)) if rows else None


def _revised(found: Revision) -> Cell:
    return Cell(decimal(found.revised, 2), (f"new {decimal(found.new, 2)}, old {decimal(found.old, 2)}",))


def _note(words: str, found: BeliefMetrics) -> str:
    said = []
    if found.without_probability:
        said.append(
            f"{count(found.without_probability)} of {count(found.claims)} claims have no probability, as their server "
            "gives none, and count in no calibration"
        )
    if found.unreadable:
        said.append(f"{count(found.unreadable)} answers could not be read and claim nothing")
    return f"{words}: {'; '.join(said)}." if said else ""
