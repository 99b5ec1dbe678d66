"""Training curves of several runs over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from aloe_jax import files
from aloe_jax.run.manifest import Values
from aloe_jax.train.names import CHAIN
from eval.report.charts import Series, line_chart, nice_ticks
from eval.report.names import palette
from eval.report.page import PANELS, SHARES, recorded, thinned, whole_ticks

SIZE = (480, 260)  # of a chart, px
Points = Sequence[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class Curves:
    """A figure of a training, named by `stage` and `key` as in its metrics.jsonl, by run. All values are finite."""

    stage: str
    key: str
    title: str
    runs: Mapping[str, Points]


def training_curves(runs: Mapping[str, Path]) -> list[Curves]:
    """The report's figures of trainings that at least two of `runs` (folders by label) have recorded. InputError for a
    broken metrics.jsonl."""
    found = {
        (label, stage): _records(folder / stage / "metrics.jsonl") for label, folder in runs.items() for stage in CHAIN
    }
    curves = []
    for stage, key, title, _ in PANELS:
        points = {label: _finite(recorded(found[label, stage], key)) for label in runs}
        if len(known := {label: each for label, each in points.items() if each}) > 1:
            curves.append(Curves(stage, key, title, known))
    return curves


def has_training(run: Path) -> bool:
    """Whether a training of a run has recorded a step."""
    return any(_records(run / stage / "metrics.jsonl") for stage in CHAIN)


def _records(path: Path) -> Sequence[Values]:
    return files.read_json_lines(path, finite=False) if path.exists() else ()


def _finite(points: Points) -> Points:
    return [(step, value) for step, value in points if math.isfinite(value)]


def chart(curves: Curves) -> Markup:
    """The curves as a chart, a line per run."""
    few = max(map(len, curves.runs.values())) <= 24
    lines = []
    for (label, points), style in zip(curves.runs.items(), palette(len(curves.runs)), strict=True):
        shown = thinned(points)
        marker = style.marker if few else "none"
        lines.append(
            Series(label, style.css, [step for step, _ in shown], [value for _, value in shown], marker=marker)
        )
    steps = [step for points in curves.runs.values() for step, _ in points]
    values = [value for line in lines for value in line.y if value is not None]
    return line_chart(
        lines,
        title=f"{curves.title}, by step",
        x_label="step",
        size=SIZE,
        y_ticks=SHARES if curves.key.endswith("accuracy") else nice_ticks(min(values), max(values), most=5),
        x_ticks=whole_ticks(min(steps), max(steps)),
    )


def text_chart(curves: Sequence[Points], width: int, height: int = 9) -> list[str]:
    """Curves as lines of text, at most `width` characters wide: the first is drawn in `a`, the second in `b`, ..., and
    `*` where several meet. A column is the mean of the steps that fall into it."""
    values = [value for points in curves for _, value in points]
    steps = [step for points in curves for step, _ in points]
    low, high = min(values), max(values)
    first, last = min(steps), max(steps)
    labels = [f"{value:.4g}" for value in (high, low)]
    margin = max(map(len, labels)) + 2
    columns = width - margin
    cells = [[" "] * columns for _ in range(height)]
    for number, points in enumerate(curves):
        mark = chr(ord("a") + number % 26)
        groups: dict[int, list[float]] = {}
        for step, value in points:
            groups.setdefault(round((step - first) / ((last - first) or 1) * (columns - 1)), []).append(value)
        for column, group in groups.items():
            share = (sum(group) / len(group) - low) / ((high - low) or 1)
            row = cells[height - 1 - round(share * (height - 1))]
            row[column] = mark if row[column] in (" ", mark) else "*"
    names = [labels[0], *[""] * (height - 2), labels[1]]
    drawn = [f"{name:>{margin - 2}} ┤{''.join(row)}".rstrip() for name, row in zip(names, cells, strict=True)]
    ends = f"{first:g}", f"step {last:g}"
    return [*drawn, " " * (margin - 1) + "└" + "─" * columns,
            " " * margin + ends[0] + ends[1].rjust(columns - len(ends[0]))]  # fmt: skip
