"""What `aloe metrics` prints of run folders, and of several files of scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import parse
from eval.benchmark.metrics import Metrics, ScaleMetrics
from eval.benchmark.restraint import FIGURES, TurnKind
from eval.benchmark.scores import Scale
from eval.benchmark.truth import metrics_file
from eval.compare.sources import labels_of, results_in
from eval.compare.text import TITLES, levels_table
from eval.report.findings import SCALES
from eval.report.tables import bracket, decimal

Measured = Mapping[str, Metrics]


def print_measured(paths: Sequence[str], scale: Scale | None, console: Console | None) -> None:
    """Print the metrics of every result in `paths` as tables, or as JSON without a `console`. Raises InputError as
    `read_measured` does."""
    found = read_measured(paths)
    if console is None:
        print(json.dumps(as_json(found, scale), indent=2))
    else:
        show(found, scale, console)


def read_measured(paths: Sequence[str]) -> dict[str, Metrics]:
    """The metrics of every result in `paths` by label: a file of scores, named by its path; a run directory, its folder
    `benchmark` or one result, named by the result after its run if there are several.

    Raises InputError for a path without results, and for a broken file.
    """
    found: dict[Path, tuple[str, Path | None, Metrics]] = {}
    for given in paths:
        place = Path(str(files.existing(given, "file or directory")))
        if not place.is_dir():
            text = json.dumps(metrics_file(given))
            found[place.resolve()] = given, None, parse(Metrics, text, given)
            continue
        results = [each for each in results_in(given, controls=True) if each[3].metrics is not None]
        if not results:
            raise InputError(
                f"'{given}' has no benchmark results with scores; name a run directory after its stage `benchmark`, a "
                "folder in its `benchmark`, or a file of scores"
            )
        for path, run, name, result in results:
            assert result.metrics is not None
            found.setdefault(path, (name, run, result.metrics))
    runs = labels_of(list(dict.fromkeys(run for _, run, _ in found.values() if run is not None)))
    return {
        f"{runs[run]}/{name}" if run is not None and len(runs) > 1 else name: each for name, run, each in found.values()
    }


def as_json(found: Measured, scale: Scale | None) -> dict[str, object]:
    """The content of metrics.json of each result, or its part for one scale, which a result may lack (null)."""
    if scale is None:
        return {label: each.model_dump(mode="json") for label, each in found.items()}
    beside = {"persona", "by_turn_kind"}
    parts = {label: _on(each, scale) for label, each in found.items()}
    return {label: part and part.model_dump(mode="json", exclude=beside) for label, part in parts.items()}


def show(found: Measured, scale: Scale | None, console: Console) -> None:
    """Print the figures with their intervals, then the levels by turn, on each scale; then what there is by kind of
    turn."""
    for name in (scale,) if scale else SCALES:
        rows = [(label, part) for label, each in found.items() if (part := _on(each, name)) is not None]
        if not rows:
            continue
        console.print(Text(TITLES[name], style="bold"))
        console.print(levels_table([(f"{label}, {part.cases} cases", part) for label, part in rows], "", console.width))
        console.print(_by_turn(rows))
    kinds = [(label, each.by_turn_kind) for label, each in found.items() if each.by_turn_kind]
    if kinds and scale != "persona":
        console.print(Text("When not to personalise", style="bold"))
        console.print(_by_kind(kinds, console.width))


def _by_kind(found: Sequence[tuple[str, Mapping[str, TurnKind]]], width: int) -> Table:
    """A line per result and kind of turn, each figure with its interval."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", overflow="fold")
    for head in ("turns", "score", "over-personal", "flattery", "who is who"):
        table.add_column(head, justify="right", no_wrap=True)
    between = " " if width >= 120 else "\n"
    for label, kinds in found:
        for kind, each in kinds.items():
            figures = [getattr(each, name) for name in FIGURES]
            cells = ["–" if one is None else f"{decimal(one.value, 2)}{between}{bracket(one.ci, 2)}" for one in figures]
            table.add_row(Text(f"{label}, {kind}"), str(each.turns), *(Text(cell.rstrip()) for cell in cells))
    return table


def _on(found: Metrics, scale: Scale) -> ScaleMetrics | None:
    return found if scale == "shown" else found.persona


def _by_turn(rows: Sequence[tuple[str, ScaleMetrics]]) -> Table:
    turns = max(found.turns for _, found in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("AL by turn", overflow="fold")
    for turn in range(1, turns + 1):
        table.add_column(str(turn), justify="right", no_wrap=True)
    for label, found in rows:
        table.add_row(Text(label), *(decimal(level, 2) if level is not None else "–" for level in found.AL))
    return table
