"""A comparison as tables and plots of characters in the terminal, from 60 columns on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from eval.benchmark.calibration import Calibration
from eval.benchmark.metrics import ScaleMetrics
from eval.benchmark.paired import Difference
from eval.benchmark.scores import Scale
from eval.compare.comparison import Comparison
from eval.compare.curves import Curves, text_chart
from eval.report.findings import metrics_on
from eval.report.labelled import refusals
from eval.report.names import Style
from eval.report.parts import Shown, ability_grids
from eval.report.simulators import simulator_grids
from eval.report.tables import Grid, bracket, decimal, needed, p_value

TITLES = {
    "shown": "What users had shown counts (scale `shown`)",
    "persona": "The whole persona counts (scale `persona`)",
}
COLUMNS = (("", 9), ("paired difference", 23), ("p", 6), ("find", 6), ("need", 9))  # below 60 characters with gaps
LEGEND = (
    "Paired differences of the average, IR (per turn), and the average at equal length of the replies; p; find: the "
    "smallest true difference that these cases show with a power of 0.8; need: cases that would show the one observed."
)
COUNTED = (("average", "average", 2), ("IR", "IR", 3), ("length_controlled", "length", 2))


def show(comparison: Comparison, console: Console) -> None:
    """Print levels and paired differences on each scale, then training curves and what differs between the runs."""
    for scale in comparison.scales:
        console.print(Text(TITLES[scale], style="bold"))
        measured = [(each.label, metrics_on(each.result, scale)) for each in comparison.subjects]
        console.print(levels_table(measured, f"{comparison.cases} cases", console.width))
        for part in _differences(comparison, scale):
            console.print(part)
    if any(True for _ in _needed(comparison)):
        console.print(Text(LEGEND, style="dim"))
    shown = {each.label: Shown(each.label, Style("", ""), each.result) for each in comparison.subjects}
    for grid in (*ability_grids(shown, comparison.baseline), *simulator_grids(comparison.trials)):
        console.print(_transposed(grid))
    for note in (*comparison.notes, *_refused(comparison)):
        console.print(Text(note))
    for curves in comparison.curves:
        for part in _training(curves, console.width):
            console.print(part)
    if comparison.settings:
        console.print(_settings(comparison))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(columns[0], overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def levels_table(rows: Sequence[tuple[str, ScaleMetrics | None]], head: str, width: int) -> Table:
    """The average level and the improvement rate with their intervals of results by label, for a console of a width;
    `head` stands above the labels."""
    table = _table(head, "average AL", "IR per turn", "unscored")
    between = " " if width >= 80 else "\n"
    for label, found in rows:
        if found is None:
            table.add_row(Text(label), "no scores", "", "")
            continue
        figures = [
            f"{decimal(getattr(found, key), digits, key == 'IR')}{between}"
            f"{bracket(getattr(found.ci, key), digits, key == 'IR')}".rstrip()
            for key, digits in (("average", 2), ("IR", 3))
        ]
        table.add_row(Text(label), *map(Text, figures), str(found.unscored))
        if isinstance(made := found.corrected, Calibration):
            average = decimal(made.average.corrected, 2) + between + bracket(made.average.interval, 2)
            table.add_row(Text(f" by {made.labelled} labels", style="dim"), Text(average.rstrip()), "", "")
    return table


def _differences(comparison: Comparison, scale: Scale) -> Iterator[RenderableType]:
    """A heading per pair, and a table of its figures with columns as wide as those of the other pairs."""
    for number, contrast in enumerate(each for each in comparison.contrasts if each.scale == scale):
        table = Table(
            box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_header=not number,
            title=Text(f"{contrast.first} − {contrast.second}"), title_justify="left",
        )  # fmt: skip
        for name, width in COLUMNS:
            table.add_column(name, justify="right" if name else "left", width=width, no_wrap=True)
        for key, label, digits in COUNTED:
            found: Difference | None = getattr(contrast.found, key)
            if found is not None:
                said = f"{decimal(found.estimate, digits, True)} {bracket(found.interval, digits, True)}"
                reach = "" if found.detectable is None else decimal(found.detectable, digits)
                table.add_row(f" {label}", said, p_value(found.p), reach, needed(found))
        yield table


def _transposed(grid: Grid) -> Table:
    """A table of the page with a line per cell, each row of it under its own label."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False,
                  title=Text(grid.caption, style="bold"), title_justify="left")  # fmt: skip
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for row in grid.rows:
        table.add_row(Text(row.label), "", "")
        for (head, _), cell in zip(grid.heads, row.cells, strict=True):
            table.add_row(Text(f" {head}"), Text(cell.value), Text(", ".join(cell.remarks), style="dim"))
    return table


def _needed(comparison: Comparison) -> Iterator[Difference]:
    for contrast in comparison.contrasts:
        if contrast.found.average is not None and contrast.found.average.detectable is not None:
            yield contrast.found.average


def _refused(comparison: Comparison) -> Iterator[str]:
    """Why labels correct nothing, by result and scale."""
    for scale in comparison.scales:
        measured = ((each.label, metrics_on(each.result, scale)) for each in comparison.subjects)
        yield from refusals([(label, "", found) for label, found in measured if found is not None])


def _training(curves: Curves, width: int) -> Iterator[RenderableType]:
    """A heading, the curves over each other where the figure is the loss, and their ends."""
    yield Text(curves.title, style="bold")
    if curves.key == "loss":
        for line in text_chart(list(curves.runs.values()), min(width, 100) - 1):
            yield Text(line, no_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    for number, (label, points) in enumerate(curves.runs.items()):
        (first, before), (last, after) = points[0], points[-1]
        mark = chr(ord("a") + number % 26)
        table.add_row(mark, Text(label, overflow="fold"), f"{before:.4g} → {after:.4g}", f"step {first:g} to {last:g}")
    yield table


def _settings(comparison: Comparison) -> Table:
    runs = list(dict.fromkeys(run for values in comparison.settings.values() for run in values))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("differing setting", *runs):
        table.add_column(name, overflow="fold")
    for key, values in comparison.settings.items():
        table.add_row(Text(key), *(Text(values[run]) for run in runs))
    return table
