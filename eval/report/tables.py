"""The report's numbers as rows of text: figures with intervals, paired differences, counts, the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aloe_jax.run.defaults import STAGES
from markupsafe import Markup

from eval.benchmark.metrics import Interval, Metrics, compare
from eval.report.charts import interval_bar
from eval.report.reading import MODELS, Run

# Key in metrics.json, what the page calls it, digits after the point.
FIGURES = (
    ("average", "Average AL", 2),
    ("IR", "IR, points a turn", 3),
    ("R2", "R²", 2),
    ("N_IR", "N-IR", 3),
    ("N_R2", "N-R²", 2),
)
DIFFERENCES = FIGURES[:2]  # the others are not differences in points


@dataclass(frozen=True)
class Cell:
    """A value and its interval as text; `verdict` and `bar` only for differences."""

    value: str
    interval: str
    model: str
    verdict: str = ""
    bar: Markup | None = None


@dataclass(frozen=True)
class Row:
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class StageRow:
    """One stage: `status` unless it is finished, `counts` as (name, value) pairs, nested names joined by dots."""

    name: str
    status: str
    seconds: str
    counts: tuple[tuple[str, str], ...]


def decimal(value: float | None, digits: int, signed: bool = False) -> str:
    """A number with a true minus sign and no negative zero, `undefined` for None."""
    if value is None:
        return "undefined"
    rounded = round(value, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def bracket(interval: Interval, digits: int, signed: bool = False) -> str:
    """[low, high] as text, empty for None."""
    if interval is None:
        return ""
    return f"[{decimal(interval[0], digits, signed)}, {decimal(interval[1], digits, signed)}]"


def duration(seconds: float | None) -> str:
    """Seconds as a person would say them."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def measured(run: Run) -> dict[str, Metrics]:
    """Figures of the models that have them, in the order base, sft, preference."""
    found = {model: run.results[model].metrics for model in MODELS if model in run.results}
    return {model: result for model, result in found.items() if result is not None}


def differences(run: Run) -> dict[str, Metrics]:
    """Paired difference to `base` of each trained model over the same cases."""
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
    """Rows of the figures, and rows of AL turn by turn; a column a model."""
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


def difference_rows(results: dict[str, Metrics]) -> tuple[Row, ...]:
    """Rows of paired differences: average, IR, first and last turn; bars of one row share their scale."""
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
    """What an interval of a difference says."""
    if interval is None:
        return "no interval"
    return "above zero" if interval[0] > 0 else "below zero" if interval[1] < 0 else "may be chance"


def stage_rows(run: Run) -> tuple[StageRow, ...]:
    """One row for each stage that left a manifest, in running order."""
    return tuple(
        StageRow(
            stage,
            "" if manifest.status == "finished" else manifest.status or "",
            duration(manifest.seconds),
            tuple((name, count(value)) for name, value in leaves(manifest.counts)),
        )
        for stage in STAGES
        if (manifest := run.manifests.get(stage)) is not None
    )


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of nested mappings, keys joined by dots; empty groups are left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def count(value: Any) -> str:
    """A count for readers: thousands separated, at most six digits of a fraction."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
