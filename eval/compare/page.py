"""A comparison as one HTML page that loads nothing, with the report's style, charts and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.compare.comparison import Comparison, is_ceiling
from eval.compare.curves import chart
from eval.compare.sources import Subject
from eval.report.beliefs import belief_part
from eval.report.dialogues import side_by_side
from eval.report.findings import EXTREMES, extremes
from eval.report.labelled import unlabelled
from eval.report.names import Style, palette, styles
from eval.report.page import page_templates
from eval.report.parts import Shown, grids_beside, scale_parts
from eval.report.simulators import simulator_grids
from eval.report.tables import Cell, Grid, Row, bracket, decimal, p_value


def render(comparison: Comparison) -> str:
    """The page as HTML text. The template escapes all text of the runs."""
    return page_templates(Path(__file__).parent).get_template("compare.html").render(**_content(comparison))


def _content(comparison: Comparison) -> dict[str, object]:
    """The values that the template names."""
    style = _styles(comparison.subjects)
    shown = {
        each.label: Shown(each.label, style[each.label], each.result, is_ceiling(each)) for each in comparison.subjects
    }
    return {
        "comparison": comparison,
        "sentence": sentence(comparison),
        "scales": scale_parts(shown, comparison.contrasts),
        "beliefs": belief_part(shown),
        "grids": [*grids_beside(shown, comparison.baseline), *simulator_grids(comparison.trials)] if shown else (),
        "curves": [(each.title, chart(each)) for each in comparison.curves],
        "unlabelled": unlabelled(each.result for each in comparison.subjects),
        "extremes": _most_different(comparison),
        "settings": _settings(comparison),
        "names": {label: label for label in shown},
        "style": style,
    }


def _styles(subjects: Sequence[Subject]) -> dict[str, Style]:
    """The style of each result by label: as in its report if all are of one run, else of the palette in turn."""
    found = styles([each.name for each in subjects])
    if len({each.run for each in subjects}) == 1:
        return {each.label: found[each.name] for each in subjects}
    models = [each.label for each in subjects if not is_ceiling(each)]
    ceilings = {each.label: found[each.name] for each in subjects if is_ceiling(each)}
    return dict(zip(models, palette(len(models)), strict=True)) | ceilings


def sentence(comparison: Comparison) -> str:
    """How many results are compared over how many cases, and which is best of those whose difference to the baseline
    is clear of zero."""
    if not comparison.subjects:
        return "Trainings of runs without benchmark results"
    models = [each for each in comparison.subjects if not is_ceiling(each)]
    said = f"{len(models)} results over the same {comparison.cases} case{'' if comparison.cases == 1 else 's'}"
    ceilings = {each.label for each in comparison.subjects if is_ceiling(each)}
    to_baseline = [
        each
        for each in comparison.contrasts
        if each.second == comparison.baseline and each.scale == "shown" and each.first not in ceilings
    ]
    clear = [each for each in to_baseline if (found := each.found.average) and found.interval and found.interval[0] > 0]
    if not clear:
        return f"{said}. No result can be shown to be above {comparison.baseline} on what users had shown."
    best = max(clear, key=lambda each: each.found.average.estimate if each.found.average else 0.0)
    assert best.found.average is not None
    found = best.found.average
    return (
        f"{said}. Furthest above {comparison.baseline} on what users had shown is {best.first}, by "
        f"{decimal(found.estimate, 2)} {bracket(found.interval, 2)} (p {p_value(found.p)})."
    )


def _most_different(comparison: Comparison) -> list[tuple[str, list]]:
    """(pair, cases) of each result against the baseline: the largest differences both ways, side by side."""
    results = {each.label: each.result for each in comparison.subjects}
    found = []
    for each in comparison.contrasts:
        if each.scale != "shown" or each.second != comparison.baseline:
            continue
        sides = {label: results[label] for label in (each.second, each.first)}
        wins, losses = extremes(sides[each.first], sides[each.second], "shown", EXTREMES)
        cases = [(one, side_by_side(sides, one.case)) for one in (*wins, *reversed(losses))]
        if cases := [(one, case) for one, case in cases if case.rows]:
            found.append((f"{each.first} − {each.second}", cases))
    return found


def _settings(comparison: Comparison) -> Grid | None:
    runs = list(dict.fromkeys(run for values in comparison.settings.values() for run in values))
    rows = tuple(Row(key, tuple(Cell(values[run]) for run in runs)) for key, values in comparison.settings.items())
    return Grid("Settings that are not the same in all runs", tuple((run, "") for run in runs), rows) if rows else None
