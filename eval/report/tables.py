"""The report's numbers as rows of text: figures with intervals, paired differences, counts, the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from aloe_jax.run.manifest import Values
from eval.benchmark.metrics import Interval, Metrics, ScaleMetrics, compare
from eval.benchmark.paired import Difference
from eval.report.charts import interval_bar
from eval.report.reading import RunRecord

MODELS = ("base", "sft", "preference")

# Key in metrics.json, name on the page, digits after the decimal point.
FIGURES = (
    ("average", "Average AL", 2),
    ("IR", "IR, points per turn", 3),
    ("R2", "R²", 2),
    ("N_IR", "N-IR", 3),
    ("N_R2", "N-R²", 2),
)
DIFFERENCES = FIGURES[:2]  # the others are not measured in points


@dataclass(frozen=True)
class Cell:
    """A value and its interval as text; `verdict` and `bar` are for differences only."""

    value: str
    interval: str
    model: str
    verdict: str = ""
    bar: Markup | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    label: str
    cells: tuple[Cell, ...]


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


def needed(found: Difference) -> str:
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


def measured(run: RunRecord) -> dict[str, Metrics]:
    """The figures of the models that have them, in the order base, sft, preference."""
    found = {model: run.results[model].metrics for model in MODELS if model in run.results}
    return {model: result for model, result in found.items() if result is not None}


def differences(run: RunRecord) -> dict[str, ScaleMetrics]:
    """The paired difference of each trained model to `base` over the same cases."""
    base = run.results.get("base")
    if base is None or base.metrics is None or not base.scores:
        return {}
    made = base.metrics.bootstrap
    trained = [model for model in MODELS[1:] if model in run.results and run.results[model].scores]
    return {
        model: compare(run.results[model].scores, base.scores, made.resamples, made.seed, made.level)
        for model in trained
    }


def figure_rows(results: dict[str, Metrics]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows of the figures, and rows of AL turn by turn; one column per model."""
    turns = max((result.turns for result in results.values()), default=0)
    figures = tuple(Row(label, _cells(results, key, digits)) for key, label, digits in FIGURES)
    levels = tuple(
        Row(
            f"AL({turn + 1})",
            tuple(
                Cell(decimal(result.AL[turn], 2), bracket(result.ci.AL[turn], 2), model)
                for model, result in results.items()
                if turn < result.turns
            ),
        )
        for turn in range(turns)
    )
    return figures, levels


def _cells(results: dict[str, Metrics], key: str, digits: int) -> tuple[Cell, ...]:
    return tuple(
        Cell(decimal(getattr(result, key), digits), bracket(getattr(result.ci, key), digits), model)
        for model, result in results.items()
    )


def difference_rows(results: dict[str, ScaleMetrics]) -> tuple[Row, ...]:
    """Rows of paired differences: average, IR, first and last turn; the bars of a row share their scale."""
    if not results:
        return ()
    picked = [
        (label, digits, {model: (getattr(result, key), getattr(result.ci, key)) for model, result in results.items()})
        for key, label, digits in DIFFERENCES
    ]
    turns = next(iter(results.values())).turns
    for turn in sorted({0, turns - 1}):
        values = {model: (result.AL[turn], result.ci.AL[turn]) for model, result in results.items()}
        picked.append((f"AL({turn + 1})", 2, values))
    return tuple(Row(label, _difference_cells(values, digits)) for label, digits, values in picked)


def _difference_cells(values: dict[str, tuple[float | None, Interval]], digits: int) -> tuple[Cell, ...]:
    edges = [abs(edge) for _, interval in values.values() if interval is not None for edge in interval]
    reach = max(edges, default=0.0) or 1.0
    cells = []
    for model, (value, interval) in values.items():
        bar = interval_bar(value, interval, reach, model) if value is not None and interval is not None else None
        text = bracket(interval, digits, signed=True)
        cells.append(Cell(decimal(value, digits, signed=True), text, model, verdict(interval), bar))
    return tuple(cells)


def verdict(interval: Interval) -> str:
    """Where the interval of a difference lies."""
    if interval is None:
        return "no interval"
    return "above zero" if interval[0] > 0 else "below zero" if interval[1] < 0 else "may be chance"


def stage_rows(run: RunRecord) -> tuple[StageRow, ...]:
    """One row per stage that has a manifest, in running order."""
    return tuple(
        StageRow(
            stage,
            "" if manifest.finished else manifest.status,
            duration(manifest.seconds),
            tuple((name, count(value)) for name, value in leaves(manifest.counts)),
        )
        for stage, manifest in run.manifests.items()
    )


def leaves(values: Values, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(key, value) of nested mappings, with keys joined by dots; empty groups are left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def count(value: object) -> str:
    """A count as text: thousands separated, fractions with at most six digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
