"""A comparison as data: one JSON object, and CSV files for spreadsheets and other plotting tools."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from etils import epath

from aloe_jax import files
from eval.benchmark.calibration import Calibration
from eval.benchmark.metrics import ScaleMetrics
from eval.benchmark.paired import Difference
from eval.benchmark.tasks import task_differences
from eval.compare.comparison import Comparison
from eval.report.findings import metrics_on

FIGURES = ("average", "IR", "R2", "N_IR", "N_R2")
DIFFERENCES = ("average", "IR", "length_controlled")
Row = Sequence[object]


def as_json(comparison: Comparison) -> dict[str, object]:
    """The comparison as JSON values: results by label with their metrics by scale, differences, differing settings."""
    return {
        "baseline": comparison.baseline,
        "cases": comparison.cases,
        "results": {
            subject.label: {
                "run": str(subject.run),
                "name": subject.name,
                "general": found_general.model_dump(mode="json", exclude={"dialogues"})
                if (found_general := subject.result.general)
                else None,
                "tasks": {
                    task: found_task.model_dump(mode="json", exclude={"documents"})
                    for task, found_task in subject.result.tasks.items()
                },
                **{
                    scale: found.model_dump(mode="json", exclude={"persona"})
                    for scale in comparison.scales
                    if (found := metrics_on(subject.result, scale)) is not None
                },
            }
            for subject in comparison.subjects
        },
        "differences": [
            {"first": each.first, "second": each.second, "scale": each.scale, **each.found.model_dump(mode="json")}
            for each in comparison.contrasts
        ],
        "task_differences": list(_task_differences(comparison)),
        "training": [
            {"stage": each.stage, "figure": each.key, "runs": {run: list(points) for run, points in each.runs.items()}}
            for each in comparison.curves
        ],
        "settings": comparison.settings,
        "notes": list(comparison.notes),
    }


def _task_differences(comparison: Comparison) -> Iterator[dict[str, object]]:
    """The differences to the baseline in tasks of lm-eval."""
    tasks = {subject.label: subject.result.tasks for subject in comparison.subjects}
    for label in tasks:
        if label != comparison.baseline:
            for each in task_differences(tasks[label], tasks[comparison.baseline]):
                found, names = each.found, {"first": label, "second": comparison.baseline}
                numbers = {"estimate": found.value, "interval": found.interval(), "p": found.p_value()}
                yield {**names, "task": each.task, "figure": each.figure, "documents": each.documents, **numbers}


def write_csv(comparison: Comparison, out: epath.Path) -> list[epath.Path]:
    """Write `levels.csv`, `figures.csv`, `differences.csv` and `training.csv` into `out`; an undefined value is an
    empty field."""
    tables = {
        "levels.csv": (("result", "scale", "turn", "AL", "low", "high"), _levels(comparison)),
        "figures.csv": (("result", "scale", "figure", "value", "low", "high"), _figures(comparison)),
        "differences.csv": (
            ("first", "second", "scale", "figure", "estimate", "low", "high", "error", "df", "p", "detectable",
             "cases_needed"),
            _differences(comparison),
        ),
        "training.csv": (("stage", "figure", "run", "step", "value"), _training(comparison)),
    }  # fmt: skip
    for name, (head, rows) in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        files.write_text(out / name, text.getvalue())
    return [out / name for name in tables]


def _measured(comparison: Comparison) -> Iterator[tuple[str, str, ScaleMetrics]]:
    for subject in comparison.subjects:
        for scale in comparison.scales:
            if (found := metrics_on(subject.result, scale)) is not None:
                yield subject.label, scale, found


def _levels(comparison: Comparison) -> Iterator[Row]:
    for label, scale, found in _measured(comparison):
        for turn, (level, interval) in enumerate(zip(found.AL, found.ci.AL, strict=True), start=1):
            yield label, scale, turn, level, *(interval or (None, None))


def _figures(comparison: Comparison) -> Iterator[Row]:
    for label, scale, found in _measured(comparison):
        for name in FIGURES:
            yield label, scale, name, getattr(found, name), *(getattr(found.ci, name) or (None, None))
        if isinstance(made := found.corrected, Calibration):
            yield label, scale, "average_corrected", made.average.corrected, *(made.average.interval or (None, None))


def _differences(comparison: Comparison) -> Iterator[Row]:
    for each in comparison.contrasts:
        by_turn = {f"AL({turn})": found for turn, found in enumerate(each.found.AL, start=1)}
        for name, found in {**{name: getattr(each.found, name) for name in DIFFERENCES}, **by_turn}.items():
            if isinstance(found, Difference):
                yield (each.first, each.second, each.scale, name, found.estimate, *(found.interval or (None, None)),
                       found.error, found.df, found.p, found.detectable, found.cases_needed)  # fmt: skip


def _training(comparison: Comparison) -> Iterator[Row]:
    for each in comparison.curves:
        for run, points in each.runs.items():
            for step, value in points:
                yield each.stage, each.key, run, f"{step:g}", value
