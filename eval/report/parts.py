"""The benchmark on the page: curves, figures and differences by scale, and tables of everything beside the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from data_gen.calls.given_up import told
from data_gen.world.occasions import FLIP, ORDINARY
from eval.benchmark.entries import CONTROLS, ORACLE, TESTED
from eval.benchmark.general import General, general_difference
from eval.benchmark.metrics import ScaleMetrics
from eval.benchmark.restraint import Figure, by_turn_kind
from eval.benchmark.scores import Scale
from eval.benchmark.tasks import TaskDifference, TaskResult, task_differences
from eval.report import tables
from eval.report.charts import Series, line_chart, nice_ticks
from eval.report.findings import (
    MEASURES,
    SCALES,
    Contrast,
    behaviour,
    criteria,
    holding,
    metrics_on,
)
from eval.report.labelled import agreement_grid, corrected_row, refusals
from eval.report.names import Style
from eval.report.reading import ModelResult, Tokens
from eval.report.tables import Cell, Differences, Grid, Row, bracket, count, decimal, estimated, p_value, with_interval

WIDE, NARROW = (860, 380), (360, 300)  # px; the style sheet shows one of them
JUDGE_SCALE = (1.0, 5.0)  # of our judges; curves within it are drawn on the whole scale, so that small gains look small
KINDS = {
    ORDINARY: "Ordinary turns",
    "asks": "A question of fact",
    "other": "For somebody else",
    "neutral": "Plain answers wished for",
    FLIP: "After a change of preference, the old one",
}
TITLES: Mapping[Scale, str] = {"shown": "What users had shown counts", "persona": "The whole persona counts"}
EXPLAINED: Mapping[Scale, str] = {
    "shown": "Scale shown: a reply is judged by what this user has shown so far. A perfect model is flat at the top.",
    "persona": "Scale persona: a reply is judged by all facts and traits, shown or not. It rises as a model learns.",
}


@dataclass(frozen=True)
class Shown:
    """A result on a page: how it is called and drawn. `ceiling`: the oracle's, a line to compare with."""

    words: str
    style: Style
    result: ModelResult
    ceiling: bool = False


@dataclass(frozen=True)
class ScalePart:
    """What the page shows of one scale."""

    title: str
    explained: str
    tiles: tuple[tuple[str, str, ScaleMetrics], ...]
    curves: tuple[Markup, Markup]
    figures: Grid
    levels: Grid
    differences: tuple[Differences, ...]
    left_out: str  # pairs of replies that no difference counts
    refused: tuple[str, ...]  # why labels correct nothing


def scale_parts(shown: Mapping[str, Shown], contrasts: Sequence[Contrast]) -> list[ScalePart]:
    """A part for each scale on which a result has metrics."""
    parts = []
    for scale in SCALES:
        found = {name: metrics for name, each in shown.items() if (metrics := metrics_on(each.result, scale))}
        if not found:
            continue
        named = tuple((shown[name].words, shown[name].style.css, metrics) for name, metrics in found.items())
        figures, levels = tables.figure_grids(named)
        if (row := corrected_row(named)) is not None:
            figures = replace(figures, rows=(figures.rows[0], row, *figures.rows[1:]))
        here = [each for each in contrasts if each.scale == scale]
        worded = [(_pair(shown, each), shown[each.first].style.css, each.found) for each in here]
        parts.append(
            ScalePart(
                TITLES[scale],
                EXPLAINED[scale],
                tuple(tile for name, tile in zip(found, named, strict=True) if not shown[name].ceiling),
                (alignment_chart(shown, found, WIDE), alignment_chart(shown, found, NARROW)),
                figures,
                levels,
                tables.difference_rows(worded),
                ", ".join(f"{pair} {each.unscored}" for pair, _, each in worded if each.unscored),
                refusals(named),
            )
        )
    return parts


def labels_grid(shown: Mapping[str, Shown]) -> Grid | None:
    """How far the judge agrees with labels of the results' replies; None without labels."""
    return agreement_grid(
        {
            scale: [
                (each.words, each.style.css, found)
                for each in shown.values()
                if (found := metrics_on(each.result, scale)) is not None
            ]
            for scale in SCALES
        }
    )


def _pair(shown: Mapping[str, Shown], contrast: Contrast) -> str:
    return f"{shown[contrast.first].words} − {shown[contrast.second].words}"


def alignment_chart(shown: Mapping[str, Shown], found: Mapping[str, ScaleMetrics], size: tuple[int, int]) -> Markup:
    """AL by turn of every result with its interval as a band; the ceiling has none."""
    series = [
        Series(
            name=shown[name].words,
            css=shown[name].style.css,
            x=range(1, metrics.turns + 1),
            y=metrics.AL,
            band=() if shown[name].ceiling else metrics.ci.AL,
            marker=shown[name].style.marker,
        )
        for name, metrics in found.items()
    ]
    values = [value for each in found.values() for value in each.AL if value is not None]
    values += [edge for each in series for pair in each.band if pair is not None for edge in pair]
    return line_chart(
        series,
        title="Alignment level by turn: "
        + "; ".join(f"{each.name} {', '.join(decimal(value, 2) for value in each.y)}" for each in series),
        x_label="turn of the conversation",
        size=size,
        y_ticks=level_ticks(values),
        x_ticks=list(range(1, max(each.turns for each in found.values()) + 1)),
    )


def level_ticks(values: Sequence[float]) -> list[float]:
    """Ticks of the score axis: the judge's whole scale if the scores lie within it, else round numbers around them."""
    low, high = JUDGE_SCALE
    if not values or (min(values) >= low and max(values) <= high):
        return [1.0, 2.0, 3.0, 4.0, 5.0]
    return nice_ticks(min(values), max(values))


def _heads(shown: Mapping[str, Shown]) -> tuple[tuple[str, str], ...]:
    return tuple((each.words, each.style.css) for each in shown.values())


def criteria_grid(shown: Mapping[str, Shown]) -> Grid | None:
    """The mean of each of the judge's criteria; None without any."""
    found = [criteria(each.result) for each in shown.values()]
    names = dict.fromkeys(name for each in found for name in each)
    rows = tuple(Row(name, tuple(estimated(each.get(name), 2) for each in found)) for name in names)
    return Grid("The judge's criteria, mean over all replies", _heads(shown), rows) if rows else None


def measures_grid(shown: Mapping[str, Shown]) -> Grid | None:
    """What happens in the dialogues beside their scores; None without dialogues."""
    found = [behaviour(each.result) for each in shown.values()]
    rows = [
        Row(label, tuple(estimated(each.get(name), digits) for each in found))
        for name, label, digits in MEASURES
        if any(name in each for each in found)
    ]
    for scale in SCALES:
        held = [holding(each.result, scale) for each in shown.values()]
        for which, (label, digits) in enumerate((("Share of dialogues with every turn at 4 or more", 2),
                                                 ("Decay: mean AL after turn 5, minus AL(5)", 2))):  # fmt: skip
            if any(each[which] is not None for each in held):
                cells = tuple(estimated(each[which], digits) for each in held)
                rows.append(Row(f"{label} ({scale})", cells))
    return Grid("Measures of the dialogues, with intervals over users", _heads(shown), tuple(rows)) if rows else None


def restraint_grid(shown: Mapping[str, Shown]) -> Grid | None:
    """Score and over-personalisation by kind of turn; None where a reply may be about the user in all of them."""
    found = [by_turn_kind(each.result.scores, each.result.trees) or {} for each in shown.values()]
    rows = []
    for kind, said in KINDS.items():
        turns = [each.get(kind) for each in found]
        if any(turns):
            rows.append(Row(f"{said}: score", tuple(_of_kind(each.score if each else None) for each in turns)))
            personal = tuple(_of_kind(each.over_personalisation if each else None) for each in turns)
            note = "may be personal" if kind == ORDINARY else ""
            rows.append(Row(f"{said}: share of personal replies", personal, note))
    return Grid("When not to personalise", _heads(shown), tuple(rows)) if rows else None


def _of_kind(found: Figure | None) -> Cell:
    return Cell("–") if found is None else with_interval(found.value, found.ci, 2)


def grids_beside(shown: Mapping[str, Shown], baseline: str) -> list[Grid]:
    """The tables beside the scores that there is something for; `baseline` as in `general_grid`."""
    found = (labels_grid(shown), criteria_grid(shown), measures_grid(shown), restraint_grid(shown))
    return [*(grid for grid in found if grid), *ability_grids(shown, baseline)]


def ability_grids(shown: Mapping[str, Shown], baseline: str) -> list[Grid]:
    """The tables of general ability that there is something for; `baseline` as in `general_grid`."""
    return [grid for grid in (general_grid(shown, baseline), tasks_grid(shown, baseline)) if grid]


def general_grid(shown: Mapping[str, Shown], baseline: str) -> Grid | None:
    """General ability of the models, with its difference to that of `baseline`; None if it was not measured."""
    measured = {name: found for name, each in shown.items() if (found := each.result.general) is not None}
    if not measured:
        return None
    models = measured.values()
    rows = [
        Row("Perplexity per token", tuple(Cell(decimal(found.perplexity, 2)) for found in models)),
        Row("Nats per token", tuple(with_interval(found.nats_per_token, found.interval, 3) for found in models)),
    ]
    base = measured.get(baseline)
    if base is not None and len(models) > 1:
        cells = tuple(Cell("–") if found is base else _to_base(found, base) for found in models)
        rows.append(
            Row(f"Difference to {shown[baseline].words}, nats per token", cells, "above zero: ability was lost")
        )
    return Grid("General ability: replies of plain dialogues, lower is better",
                _heads({name: shown[name] for name in measured}), tuple(rows))  # fmt: skip


def _to_base(found: General, base: General) -> Cell:
    made = general_difference(found, base)
    if made is None:
        return Cell("–", ("other tokens",))
    interval = bracket(made.interval(), 3, True)
    return Cell(decimal(made.value, 3, True), (interval,) if interval else ())


def tasks_grid(shown: Mapping[str, Shown], baseline: str) -> Grid | None:
    """The figures of lm-eval's tasks with standard errors, and their differences to the model `baseline`; None if no
    model did one."""
    done = {name: each.result.tasks for name, each in shown.items() if each.result.tasks}
    base = done.get(baseline, {})
    compared = {name: {(each.task, each.figure): each for each in task_differences(tasks, base)}
                for name, tasks in done.items() if name != baseline}  # fmt: skip
    figures = dict.fromkeys(
        (task, each.name) for found in done.values() for task in found for each in found[task].figures
    )
    rows = []
    for task, name in figures:
        rows.append(Row(f"{task}: {name}", tuple(_figure(tasks.get(task), name) for tasks in done.values())))
        cells = tuple(_task_to_base(compared.get(model, {}).get((task, name))) for model in done)
        if any(cell.remarks for cell in cells):
            rows.append(Row(f"{task}: {name}, difference to {shown[baseline].words}", cells))
    heads = _heads({name: shown[name] for name in done})
    return Grid("General ability: tasks of lm-eval, with standard errors", heads, tuple(rows)) if rows else None


def _figure(found: TaskResult | None, name: str) -> Cell:
    figure = next((each for each in found.figures if each.name == name), None) if found else None
    if found is None or figure is None or figure.value is None:
        return Cell("–")
    error = f" ± {decimal(figure.error, 3)}" if figure.error is not None else ""
    remarks = [f"{count(len(found.documents))} documents"]
    remarks += ["lower is better"] if figure.higher_is_better is False else []
    remarks += [f"{count(found.cut)} prompts were cut"] if found.cut else []
    return Cell(f"{decimal(figure.value, 3)}{error}", tuple(remarks))


def _task_to_base(found: TaskDifference | None) -> Cell:
    if found is None:
        return Cell("–")
    interval, p = found.found.interval(), f"p {p_value(found.found.p_value())}"
    return Cell(decimal(found.found.value, 3, True), (bracket(interval, 3, True), p) if interval else ())


def controls_grid(
    results: Mapping[str, ModelResult], contrasts: Sequence[Contrast], words: Mapping[str, str]
) -> Grid | None:
    """Each control with its level and its paired difference to its model on each scale; None without controls."""
    rows = []
    for name, result in results.items():
        control = name.rpartition("+")[2]
        cells = [Cell(count(len({record.case for record in result.scores})))]
        for scale in SCALES:
            metrics = metrics_on(result, scale)
            own = next((each for each in contrasts if (each.first, each.scale) == (name, scale)), None)
            average = own.found.average if own else None
            cells.append(with_interval(metrics.average, metrics.ci.average, 2) if metrics else Cell("–"))
            if own is None or average is None:
                cells.append(Cell("–"))
                continue
            found = (bracket(average.interval, 2, True), f"p {p_value(average.p)}") if average.interval else ()
            cells.append(Cell(decimal(average.estimate, 2, True), (*found, f"to {words[own.second]}")))
        rows.append(Row(words[name], tuple(cells), CONTROLS[control]))
    heads = [("cases", "")]
    heads += [(text, "") for scale in SCALES for text in (f"average AL, {scale}", "difference")]
    return Grid("Controls", tuple(heads), tuple(rows)) if rows else None


def unscored_grid(results: Mapping[str, ModelResult], words: Mapping[str, str]) -> Grid | None:
    """Scored and unscored replies of every result, and why; None without results."""
    rows = []
    for name, result in results.items():
        replies, missing = len(result.scores), sum(record.score is None for record in result.scores)
        counts = result.manifest.counts if result.manifest else {}
        said = [_reasons(counts.get(key)) for key in ("unscored", "given_up", "flags")]
        if missing and not said[0]:
            said[0] = "reason not recorded"
        without = Cell(count(missing), (said[0],) if said[0] else ())
        rows.append(
            Row(words[name], (Cell(count(replies - missing)), without, Cell(said[1] or "–"), Cell(said[2] or "–")))
        )
    heads = ("scored", "unscored", "cases that a failing server ended", "scored, but")
    return Grid("Replies with and without a score", tuple((head, "") for head in heads), tuple(rows)) if rows else None


def _reasons(value: object) -> str:
    return told(value) if isinstance(value, Mapping) and value else ""


def cost_grid(results: Mapping[str, ModelResult], words: Mapping[str, str]) -> Grid | None:
    """Seconds of each result, and the calls and tokens of the model under test and of users and judges."""
    rows = []
    for name, result in results.items():
        tested = result.tokens.get(TESTED, Tokens(0, 0, 0))
        others = [tokens for role, tokens in result.tokens.items() if role != TESTED]
        around = Tokens(*(sum(getattr(each, key) for each in others) for key in ("calls", "read", "written")))
        seconds = tables.duration(result.manifest.seconds) if result.manifest else ""
        rows.append(Row(words[name], (Cell(seconds or "–"), _tokens(tested), _tokens(around))))
    heads = ("time", "model under test", "models of user and judge")
    return Grid("Time and tokens", tuple((head, "") for head in heads), tuple(rows)) if rows else None


def _tokens(tokens: Tokens) -> Cell:
    if not tokens.calls:
        return Cell("none")
    return Cell(
        f"{count(tokens.calls)} calls", (f"{count(tokens.read)} tokens read", f"{count(tokens.written)} written")
    )


def is_oracle(name: str) -> bool:
    """Whether a result is the oracle's, by its name in the run."""
    return name == ORACLE
