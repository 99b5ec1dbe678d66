"""The page itself: everything a run holds, as one HTML text that loads nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloe_jax.run.defaults import STAGES
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data_gen.publish.summary import family_sentence, growth_sentences, judge_sentences
from eval.benchmark.metrics import Metrics
from eval.report import tables, wording
from eval.report.charts import Reference, Series, line_chart, nice_ticks
from eval.report.dialogues import benchmark_case, dialogue
from eval.report.reading import Run

WIDE, NARROW = (860, 400), (360, 300)  # px; the style sheet shows one of the two
PANEL = (410, 230)
MOST_POINTS = 300  # of a training curve
JUDGE_SCALE = (1.0, 5.0)  # our judges'; curves within it are drawn on all of it, so that small gains look small
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
MARKERS = {"base": "circle", "sft": "square", "preference": "diamond"}
LOG_2 = Reference(math.log(2), "log 2, where training starts")
# Stage, key of its metrics.jsonl, title, reference line.
PANELS = (
    ("sft", "loss", "SFT loss, nats a token", None),
    ("sft", "held_out_loss", "SFT loss, held-out conversations", None),
    ("preference", "loss", "Preference loss", LOG_2),
    ("preference", "accuracy", "Preference accuracy", Reference(0.5, "chance")),
    ("preference", "held_out_accuracy", "Preference accuracy, held-out conversations", Reference(0.5, "chance")),
    ("preference", "reward_margin", "Reward margin, chosen − rejected", Reference(0.0, "no preference")),
)


@dataclass(frozen=True)
class Panel:
    """A training curve with its title and first and last value."""

    title: str
    chart: Markup
    first: str
    last: str


def render(run: Run) -> str:
    """The page as HTML text. All text of the run is escaped by the template."""
    here = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here.filters["decimal"] = tables.decimal
    return here.get_template("page.html").render(**_content(run))


def _content(run: Run) -> dict[str, Any]:
    """Everything the template names."""
    results, differences = tables.measured(run), tables.differences(run)
    figures, levels = tables.figure_rows(results)
    size = wording.parameters(run)
    return {
        "run": run,
        "names": wording.MODEL_NAMES,
        "model": wording.model_name(run.config),
        "model_size": wording.size_in_words(size) if size else "",
        "result": wording.result_sentence(results, differences),
        "caveat": wording.interval_caveat(results),
        "results": results,
        "curves": [alignment_chart(results, size) for size in (WIDE, NARROW)] if results else [],
        "figures": figures,
        "levels": levels,
        "differences": differences,
        "difference_rows": tables.difference_rows(differences),
        "panels": training_panels(run),
        "dialogues": [dialogue(tree) for tree in run.trees.first] if run.trees else [],
        "case": benchmark_case(run.results),
        "judges": judges(run),
        "made": made(run),
        "stages": tables.stage_rows(run),
        "missing": [stage for stage in STAGES[:-1] if stage not in run.manifests],  # all but the report itself
        "sizing": wording.sizing(run, results),
        "limits": wording.small_model_limits(run),
        "config": [(key, str(value)) for key, value in tables.leaves(run.config)],
        "versions": sorted({pair for each in run.manifests.values() for pair in tables.leaves(each.versions)}),
    }


def alignment_chart(results: dict[str, Metrics], size: tuple[int, int]) -> Markup:
    """AL(k) of every model with its interval as a band."""
    series = [
        Series(
            name=wording.MODEL_NAMES[model],
            css=model,
            x=range(1, result.turns + 1),
            y=result.AL,
            band=result.ci.AL,
            marker=MARKERS[model],
        )
        for model, result in results.items()
    ]
    values = [value for result in results.values() for value in result.AL if value is not None]
    values += [edge for result in results.values() for pair in result.ci.AL if pair is not None for edge in pair]
    turns = max(result.turns for result in results.values())
    return line_chart(
        series,
        title="Alignment level by turn: " + "; ".join(_spoken(model, result) for model, result in results.items()),
        x_label="turn of the conversation",
        size=size,
        y_ticks=level_ticks(values),
        x_ticks=list(range(1, turns + 1)),
    )


def level_ticks(values: Sequence[float]) -> list[float]:
    """Ticks of the score axis: the judge's whole scale where the scores fit it, else round numbers around them."""
    low, high = JUDGE_SCALE
    if not values or (min(values) >= low and max(values) <= high):
        return [1.0, 2.0, 3.0, 4.0, 5.0]
    return nice_ticks(min(values), max(values))


def _spoken(model: str, result: Metrics) -> str:
    return f"{wording.MODEL_NAMES[model]} {', '.join(tables.decimal(value, 2) for value in result.AL)}"


def training_panels(run: Run) -> list[Panel]:
    """A curve for each figure of `PANELS` that the run recorded."""
    panels = []
    for stage, key, title, reference in PANELS:
        if reference is LOG_2 and not _starts_at_log_2(run):
            reference = None
        recorded = [
            (float(row["step"]), float(row[key]))
            for row in run.training.get(stage, ())
            if isinstance(row.get(key), int | float) and "step" in row
        ]
        points = [(step, value) for step, value in recorded if math.isfinite(value)]
        if not points:
            continue
        lost = len(recorded) - len(points)
        note = f" ({lost} step{'s' if lost > 1 else ''} not finite)" if lost else ""
        steps, values = zip(*thinned(points), strict=True)
        near = [*values, reference.y] if reference else [*values]
        chart = line_chart(
            [Series(title, stage, steps, values, marker="circle" if len(steps) <= 24 else "none")],
            title=f"{title}, step {points[0][0]:g} to {points[-1][0]:g}",
            x_label="step",
            size=PANEL,
            y_ticks=SHARES if key.endswith("accuracy") else nice_ticks(min(near), max(near), most=5),
            x_ticks=whole_ticks(points[0][0], points[-1][0]),
            reference=reference,
        )
        panels.append(Panel(title + note, chart, f"{points[0][1]:.3f}", f"{points[-1][1]:.3f}"))
    return panels


def _starts_at_log_2(run: Run) -> bool:
    """Whether the preference objective is a sigmoid loss of nothing but rewards."""
    from aloe_jax.train.objectives import OBJECTIVES  # brings JAX, which everything else here does without

    section = run.config.get("preference", {})
    objective = OBJECTIVES.get(section.get("objective", ""))
    if objective is None or not section.keys() >= set(objective.settings):
        return False
    first = objective.first_loss(section)
    return first is not None and math.isclose(first, math.log(2), rel_tol=1e-6)


def whole_ticks(first: float, last: float) -> list[float]:
    """First and last step, and the whole round ones between that do not touch them."""
    clear = (last - first) / 10
    inner = [tick for tick in nice_ticks(first, last, most=5) if first + clear < tick < last - clear]
    return sorted({first, *(tick for tick in inner if tick == int(tick)), last})


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS points: means of equally many neighbours each."""
    stride = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + stride] for start in range(0, len(points), stride)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def made(run: Run) -> list[str]:
    """How the conversations came about and what their judge is worth."""
    manifest = run.manifests.get("conversations")
    if manifest is None or "wanted" not in manifest.counts:
        return []
    family = family_sentence(run.config)
    said = growth_sentences(manifest.counts) + judge_sentences(manifest.counts)
    return said + ([f"Warning: {family}."] if family else [])


def judges(run: Run) -> list[str]:
    """Names of the judges that scored anything shown."""
    trees = [tree for result in run.results.values() for tree in result.trees]
    trees += run.trees.first if run.trees else ()
    return sorted({score.judge for tree in trees for node in tree.nodes for score in node.scores})
