"""The page itself: the contents of a run as one HTML text that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from markupsafe import Markup

from aloe_jax.errors import InputError
from aloe_jax.pages import templates
from aloe_jax.run.manifest import Values
from aloe_jax.settings import plain, read
from data_gen.publish.stored import StoredCounts, StoredModels
from data_gen.publish.summary import family_sentence, growth_sentences, judge_sentences, kind_sentences
from eval.benchmark.metrics import Metrics
from eval.report import tables, wording
from eval.report.charts import Guide, Series, line_chart, nice_ticks
from eval.report.dialogues import dialogue
from eval.report.reading import RunRecord

WIDE, NARROW = (860, 400), (360, 300)  # px; the style sheet shows one of them
PANEL = (410, 230)
MOST_POINTS = 300  # of a training curve
JUDGE_SCALE = (1.0, 5.0)  # of our judges; curves within it are drawn on the whole scale, so that small gains look small
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
MARKERS = {"base": "circle", "sft": "square", "preference": "diamond"}
LOG_2 = Guide(math.log(2), "log 2, where training starts")
# Stage, key in its metrics.jsonl, title, line to compare with.
PANELS = (
    ("sft", "loss", "SFT loss, nats per token", None),
    ("sft", "held_out_loss", "SFT loss, held-out conversations", None),
    ("preference", "loss", "Preference loss", LOG_2),
    ("preference", "accuracy", "Preference accuracy", Guide(0.5, "chance")),
    ("preference", "held_out_accuracy", "Preference accuracy, held-out conversations", Guide(0.5, "chance")),
    ("preference", "reward_margin", "Reward margin, chosen − rejected", Guide(0.0, "no preference")),
)


@dataclass(frozen=True)
class Panel:
    """A training curve with its title, its first and its last value."""

    title: str
    chart: Markup
    first: str
    last: str


def render(run: RunRecord) -> str:
    """The page as HTML text. The template escapes all text of the run."""
    here = templates(Path(__file__).parent)
    here.filters["decimal"] = tables.decimal
    return here.get_template("page.html").render(**_content(run))


def _content(run: RunRecord) -> dict[str, object]:
    """The values that the template names."""
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
        "case": None,
        "judges": judges(run),
        "made": made(run),
        "stages": tables.stage_rows(run),
        "sizing": wording.sizing(run, results),
        "limits": wording.small_model_limits(run),
        "config": [(key, str(value)) for key, value in tables.leaves(run.config)],
        "versions": sorted({pair for each in run.manifests.values() for pair in tables.leaves(each.versions)}),
    }


def alignment_chart(results: Mapping[str, Metrics], size: tuple[int, int]) -> Markup:
    """The AL(k) of every model with its interval as a band."""
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
    """Ticks of the score axis: the judge's whole scale if the scores lie within it, else round numbers around them."""
    low, high = JUDGE_SCALE
    if not values or (min(values) >= low and max(values) <= high):
        return [1.0, 2.0, 3.0, 4.0, 5.0]
    return nice_ticks(min(values), max(values))


def _spoken(model: str, result: Metrics) -> str:
    return f"{wording.MODEL_NAMES[model]} {', '.join(tables.decimal(value, 2) for value in result.AL)}"


def training_panels(run: RunRecord) -> list[Panel]:
    """A curve per figure of `PANELS` that the run recorded."""
    panels = []
    for stage, key, title, guide in PANELS:
        if guide is LOG_2 and not _starts_at_log_2(run):
            guide = None
        recorded = _recorded(run.training.get(stage, ()), key)
        points = [(step, value) for step, value in recorded if math.isfinite(value)]
        if not points:
            continue
        lost = len(recorded) - len(points)
        note = f" ({lost} step{'s' if lost > 1 else ''} not finite)" if lost else ""
        steps, values = zip(*thinned(points), strict=True)
        near = [*values, guide.y] if guide else [*values]
        chart = line_chart(
            [Series(title, stage, steps, values, marker="circle" if len(steps) <= 24 else "none")],
            title=f"{title}, step {points[0][0]:g} to {points[-1][0]:g}",
            x_label="step",
            size=PANEL,
            y_ticks=SHARES if key.endswith("accuracy") else nice_ticks(min(near), max(near), most=5),
            x_ticks=whole_ticks(points[0][0], points[-1][0]),
            guide=guide,
        )
        panels.append(Panel(title + note, chart, f"{points[0][1]:.3f}", f"{points[-1][1]:.3f}"))
    return panels


def _recorded(rows: Sequence[Values], key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have both."""
    found = []
    for row in rows:
        step, value = row.get("step"), row.get(key)
        if isinstance(step, int | float) and math.isfinite(step) and isinstance(value, int | float):
            found.append((float(step), float(value)))
    return found


def _starts_at_log_2(run: RunRecord) -> bool:
    """Whether the preference objective is a sigmoid loss of rewards alone."""
    from aloe_jax.train.objectives import OBJECTIVES  # imports JAX, which the rest of the report does without
    from aloe_jax.train.objectives.settings import PairSettings

    section = run.config.get("preference")
    if not isinstance(section, Mapping) or "objective" not in section:
        return False
    known = {field.name for field in fields(PairSettings)}
    given = {name: value for name, value in section.items() if name in known}
    try:
        settings = read(PairSettings, plain(PairSettings()) | given, "config.preference")
    except InputError:  # of a version with other settings
        return False
    objective = OBJECTIVES.get(settings.objective)
    first = None if objective is None else objective.initial_loss(settings)
    return first is not None and math.isclose(first, math.log(2), rel_tol=1e-6)


def whole_ticks(first: float, last: float) -> list[float]:
    """The first and the last step, and round whole ones between them that leave room for both labels."""
    clear = (last - first) / 10
    inner = [tick for tick in nice_ticks(first, last, most=5) if first + clear < tick < last - clear]
    return sorted({first, *(tick for tick in inner if tick == int(tick)), last})


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS points, each the mean of equally many neighbours."""
    stride = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + stride] for start in range(0, len(points), stride)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def made(run: RunRecord) -> list[str]:
    """Sentences on how the conversations were made and how reliable their judge is."""
    manifest = run.manifests.get("conversations")
    if manifest is None or "wanted" not in manifest.counts:
        return []
    counts, family = StoredCounts.of(manifest), family_sentence(StoredModels.of(run.config))
    said = growth_sentences(counts) + kind_sentences(counts) + judge_sentences(counts)
    return said + ([f"Warning: {family}."] if family else [])


def judges(run: RunRecord) -> list[str]:
    """Names of the judges whose scores are shown."""
    trees = [tree for result in run.results.values() for tree in result.trees]
    trees += run.trees.first if run.trees else ()
    return sorted({score.judge for tree in trees for node in tree.nodes for score in node.scores})
