"""The report's numbers as rows of text: figures with intervals, paired differences, counts, the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from aloe_jax.run.manifest import leaves
from eval.benchmark.crossed import Estimate
from eval.benchmark.metrics import Interval, ScaleMetrics
from eval.benchmark.paired import Difference as Paired
from eval.benchmark.paired import PairedDifference
from eval.report.charts import interval_bar
from eval.report.reading import RunRecord

# Key in metrics.json, name on the page, digits after the decimal point.
FIGURES = (
    ("average", "Average AL", 2),
    ("IR", "IR, points per turn", 3),
    ("R2", "R²", 2),
    ("N_IR", "N-IR", 3),
    ("N_R2", "N-R²", 2),
)
DIFFERENCES = (("average", "Average AL", 2), ("IR", "IR, points per turn", 3),
               ("length_controlled", "Average AL at equal length of the replies", 2))  # fmt: skip

# Key among the counts of a source of the data set, name on the page.
SOURCE_COUNTS = {
    "conversations": "conversations", "replies": "replies", "pairs": "pairs", "tree_tokens": "tokens",
    "trained_share": "share trained on in SFT", "sharing": "sharing factor",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value as text, with its interval and other remarks below it, a line each."""

    value: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a table; `note` stands below its label."""

    label: str
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: its caption, the heads of its columns as (text, CSS class), and its rows."""

    caption: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Difference:
    """A paired difference as text with a bar; `power` says what the cases can show."""

    pair: str
    css: str
    value: str
    interval: str
    verdict: str
    power: str
    bar: Markup | None


@dataclass(frozen=True)
class Differences:
    """The paired differences of a figure; their bars share a scale."""

    label: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class StageRow:
    """One stage: `status` is empty if it is finished, `counts` are (name, value) pairs, nested names joined by dots."""

    name: str
    status: str
    seconds: str
    counts: tuple[tuple[str, str], ...]


def decimal(value: float | None, digits: int, signed: bool = False) -> str:
    """A number with a true minus sign and without a negative zero; `undefined` for None."""
    if value is None:
        return "undefined"
    rounded = round(value, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def bracket(interval: Interval, digits: int, signed: bool = False) -> str:
    """[low, high] as text; empty for None."""
    if interval is None:
        return ""
    return f"[{decimal(interval[0], digits, signed)}, {decimal(interval[1], digits, signed)}]"


def p_value(p: float | None) -> str:
    """A p value to three digits; empty for None."""
    return "" if p is None else "<0.001" if p < 0.0005 else f"{p:.3f}"


def needed(found: Paired) -> str:
    """The cases that would show the observed difference; a dash where no number of them is known to."""
    return "" if found.interval is None else "–" if found.cases_needed is None else f"{found.cases_needed:,}"


def duration(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds; empty for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def estimated(found: Estimate | None, digits: int) -> Cell:
    """An estimate with its interval; empty for None."""
    return with_interval(None if found is None else found.value, found.interval() if found else None, digits)


def with_interval(value: float | None, interval: Interval, digits: int) -> Cell:
    """A value above its interval; a dash for None."""
    return (
        Cell("–") if value is None else Cell(decimal(value, digits), (bracket(interval, digits),) if interval else ())
    )


def figure_grids(results: Sequence[tuple[str, str, ScaleMetrics]]) -> tuple[Grid, Grid]:
    """The figures, and AL turn by turn, of results given as (words, CSS class, metrics); a column per result."""
    heads = tuple((words, css) for words, css, _ in results)
    turns = max((found.turns for _, _, found in results), default=0)

    figures = tuple(
        Row(label, tuple(with_interval(getattr(found, key), getattr(found.ci, key), digits) for _, _, found in results))
        for key, label, digits in FIGURES
    )
    levels = tuple(
        Row(
            f"AL({turn + 1})",
            tuple(
                with_interval(found.AL[turn], found.ci.AL[turn], 2) if turn < found.turns else Cell("")
                for *_, found in results
            ),
        )
        for turn in range(turns)
    )
    return Grid("Figures with intervals", heads, figures), Grid("Alignment level by turn", heads, levels)


def difference_rows(found: Sequence[tuple[str, str, PairedDifference]]) -> tuple[Differences, ...]:
    """Paired differences, given as (pair in words, CSS class, difference): average, IR, at equal length, first and last
    turn."""
    picked = [(label, digits, [(pair, css, getattr(each, key)) for pair, css, each in found])
              for key, label, digits in DIFFERENCES]  # fmt: skip
    for turn in sorted({0, max((len(each.AL) for *_, each in found), default=1) - 1}):
        levels = [(pair, css, each.AL[turn] if turn < len(each.AL) else None) for pair, css, each in found]
        picked.append((f"AL({turn + 1})", 2, levels))
    rows = [Differences(label, _differences(values, digits)) for label, digits, values in picked]
    return tuple(row for row in rows if row.differences)


def _differences(values: Sequence[tuple[str, str, Paired | None]], digits: int) -> tuple[Difference, ...]:
    known = [(pair, css, found) for pair, css, found in values if found is not None]
    edges = [abs(edge) for *_, found in known for edge in found.interval or (found.estimate,)]
    reach = max(edges, default=0.0) or 1.0
    return tuple(
        Difference(
            pair,
            css,
            decimal(found.estimate, digits, signed=True),
            bracket(found.interval, digits, signed=True),
            verdict(found.interval) + (f", p {p_value(found.p)}" if found.p is not None else ""),
            _power(found, digits),
            interval_bar(found.estimate, found.interval, reach, css) if found.interval is not None else None,
        )
        for pair, css, found in known
    )


def _power(found: Paired, digits: int) -> str:
    if found.detectable is None:
        return ""
    said = f"detectable {decimal(found.detectable, digits)}"
    return said if found.cases_needed is None else f"{said}, cases needed {needed(found)}"


def verdict(interval: Interval) -> str:
    """Where the interval of a difference lies."""
    if interval is None:
        return "no interval"
    return "above zero" if interval[0] > 0 else "below zero" if interval[1] < 0 else "may be chance"


def stage_rows(run: RunRecord) -> tuple[StageRow, ...]:
    """One row per stage that has a manifest, in running order. What the sources of the data set contributed has a table
    of its own."""
    return tuple(
        StageRow(
            stage,
            "" if manifest.finished else manifest.status,
            duration(manifest.seconds),
            tuple((name, count(value)) for name, value in leaves(manifest.counts) if not name.startswith("sources.")),
        )
        for stage, manifest in run.manifests.items()
    )


def source_grid(run: RunRecord) -> Grid | None:
    """What each source of the data set contributed; None for a single one, of which all is said already."""
    manifest = run.manifests.get("dataset")
    found = manifest.counts.get("sources") if manifest else None
    sources = (
        {name: each for name, each in found.items() if isinstance(each, Mapping)} if isinstance(found, Mapping) else {}
    )
    if len(sources) < 2:
        return None
    rows = tuple(
        Row(str(name), tuple(Cell(count(each.get(key, "–"))) for key in SOURCE_COUNTS))
        for name, each in sources.items()
    )
    return Grid("Sources", tuple((head, "") for head in SOURCE_COUNTS.values()), rows)


def count(value: object) -> str:
    """A count as text: thousands separated, fractions with at most six digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
