"""The page itself: the contents of a run as one HTML text that loads nothing."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from aloe_jax.errors import InputError
from aloe_jax.inspect import statistics_page
from aloe_jax.pages.jinja import templates
from aloe_jax.pages.scripted import SHARED
from aloe_jax.run.manifest import Values, leaves
from aloe_jax.settings import plain, read
from aloe_jax.train.names import BASE, CHAIN
from data_gen.publish.stored import StoredCounts, StoredModels
from data_gen.publish.summary import family_sentence, growth_sentences, judge_sentences, kind_sentences
from eval.report import tables, wording
from eval.report.beliefs import belief_part
from eval.report.charts import Guide, Series, line_chart, nice_ticks
from eval.report.dialogues import Case, all_cases, dialogue, side_by_side
from eval.report.findings import EXTREMES, Extreme, contrasts_of, extremes, typical
from eval.report.labelled import unlabelled
from eval.report.names import is_control, styles, words
from eval.report.parts import (
    Shown,
    controls_grid,
    cost_grid,
    grids_beside,
    is_oracle,
    scale_parts,
    unscored_grid,
)
from eval.report.reading import ModelResult, RunRecord
from eval.report.simulators import simulator_grids, trials

PANEL = (410, 230)
LEAST_SPREAD = 0.02  # of a training curve's axis, as a share of its values
MOST_POINTS = 300  # of a training curve
MOST_TEXT = 2_500_000  # characters of benchmark dialogues on the page
FIRST_TURNS = 2  # of the dialogue on the first screen
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
LOG_2 = Guide(math.log(2), "log 2, where training starts")
# Stage, key in its metrics.jsonl, title, line to compare with.
PANELS = (
    ("sft", "loss", "SFT loss, nats per token", None),
    ("sft", "held_out_loss", "SFT loss, held-out conversations", None),
    ("preference", "loss", "Preference loss", LOG_2),
    ("preference", "accuracy", "Preference accuracy", Guide(0.5, "chance")),
    ("preference", "held_out_accuracy", "Preference accuracy, held-out conversations", Guide(0.5, "chance")),
    ("preference", "reward_margin", "Reward margin, chosen − rejected", Guide(0.0, "no preference")),
    ("online", "reward", "Reward of a reply, by round", None),
    ("online", "reward_score", "Judge's score in it", None),
    ("online", "reward_belief", "Gain in correct belief in it", Guide(0.0, "nothing learnt")),
    ("online", "entropy", "Entropy of the policy, nats per token", None),
    ("online", "reference_kl", "Divergence from the reference, nats per token", Guide(0.0, "the reference")),
    ("online", "repeated", "Share of a reply that an earlier one said", None),
    ("online", "words", "Words of a reply", None),
    ("online", "top_score", "Share of replies with the judge's top score", None),
    ("online", "unscored", "Share of replies without a score", None),
    ("online", "zero_advantages", "Share of advantages that are zero", None),
    ("online", "groups_without_spread", "Groups of siblings without a difference", None),
    ("online", "probe_f1", "F1 of what it says it has learned", None),
    ("online", "sampler_gap", "Engine against trainer, nats per token", None),
    ("online", "rollout_seconds", "Seconds of rolling out", None),
    ("online", "scoring_seconds", "Seconds of log-probabilities", None),
    ("online", "step_seconds", "Seconds of the update", None),
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
    return page_templates().get_template("page.html").render(**_content(run))


def page_templates(*more: Path) -> Environment:
    """The templates of this folder, the shared ones and those of other folders, with their filters."""
    here = templates(Path(__file__).parent, SHARED, *more)
    here.filters |= {"decimal": tables.decimal, "unbroken": unbroken, "breakable": breakable}
    return here


def unbroken(text: str) -> str:
    """The text with intervals, in brackets, kept on one line."""
    return re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\u00a0"), text)


def breakable(text: str) -> Markup:
    """A name as HTML that may break after its slashes, dots and plus signs, not within `wrong_persona`."""
    return Markup(re.sub(r"([/.+])(?=\w)", r"\1<wbr>", str(escape(text))))


def _content(run: RunRecord) -> dict[str, object]:
    """The values that the template names."""
    names = {name: words(name) for name in run.results}
    style = styles(run.results)
    scored = {name: each for name, each in run.results.items() if each.metrics is not None}
    models = {name: each for name, each in scored.items() if not is_control(name)}
    shown = {
        name: Shown(names[name], style[name], each, is_oracle(name))
        for name, each in scored.items()
        if name in models or is_oracle(name)
    }
    contrasts = contrasts_of(run.results, pairs(run))
    metrics = {name: each.metrics for name, each in models.items() if each.metrics}
    size = wording.parameters(run)
    played = {name: each for name, each in run.results.items() if each.trees and not is_control(name)}
    cases, all_of_them = all_cases(played, MOST_TEXT)
    return {
        "run": run,
        "names": names,
        "style": style,
        "model": wording.model_name(run.config),
        "model_size": wording.size_in_words(size) if size else "",
        "result": wording.result_sentence(run, contrasts),
        "caveat": wording.interval_caveat(metrics),
        "results": metrics,
        "scales": scale_parts(shown, [each for each in contrasts if not is_control(each.first)]),
        "beliefs": belief_part(shown),
        "grids": [*grids_beside(shown, BASE), *simulator_grids(trials(Path(run.name), run.config, run.results))],
        "unlabelled": unlabelled(each.result for each in shown.values()),
        "controls": controls_grid({name: each for name, each in scored.items() if is_control(name)}, contrasts, names),
        "unscored": unscored_grid(run.results, names),
        "cost": cost_grid(run.results, names),
        "opening": opening(run),
        "first_turns": FIRST_TURNS,
        "extremes": most_different(run),
        "cases": cases,
        "all_cases": all_of_them,
        "data": statistics_page.shown(run.statistics) if run.statistics else None,
        "sources": tables.source_grid(run),
        "panels": training_panels(run),
        "dialogues": [dialogue(tree) for tree in run.trees.first] if run.trees else [],
        "judges": judges(run),
        "made": made(run),
        "stages": tables.stage_rows(run),
        "sizing": wording.sizing(run, metrics),
        "limits": wording.small_model_limits(run),
        "config": [(key, str(value)) for key, value in leaves(run.config)],
        "versions": sorted({pair for each in run.manifests.values() for pair in leaves(each.versions)}),
    }


def pairs(run: RunRecord) -> list[tuple[str, str]]:
    """The results whose difference is shown: models to base, a training to the one before it, controls to their
    models."""
    scored = [name for name, each in run.results.items() if each.scores]
    models = [name for name in scored if not is_control(name)]
    found = [(name, BASE) for name in models if name != BASE and BASE in models]
    chain = [name for name in CHAIN if name in models]
    found += [(later, earlier) for earlier, later in itertools.pairwise(chain)]
    of_controls = [(name, name.rpartition("+")[0] or last_trained(run)) for name in scored if is_control(name)]
    return found + [(name, model) for name, model in of_controls if model in models]


def last_trained(run: RunRecord) -> str:
    """The last model of the run with scores; empty if it has none."""
    return next((name for name in (*reversed(CHAIN), BASE) if name in run.results and run.results[name].scores), "")


def compared(run: RunRecord) -> dict[str, ModelResult]:
    """`base` and the last trained model, if both have dialogues and scores; else nothing."""
    chosen = {name: run.results[name] for name in (BASE, last_trained(run)) if name in run.results}
    return chosen if len(chosen) == 2 and all(each.trees and each.scores for each in chosen.values()) else {}


def opening(run: RunRecord) -> Case | None:
    """The case for the first screen: that with the difference of trained model and base nearest to the mean; None
    without two models to compare."""
    sides = compared(run)
    if not sides:
        return None
    base, trained = sides.values()
    found = typical(trained, base)
    return side_by_side(sides, found.case) if found else None


def most_different(run: RunRecord) -> list[tuple[str, str, list[tuple[Extreme, Case]]]]:
    """(title, verb, cases) of the largest wins and losses of the last trained model against base."""
    sides = compared(run)
    if not sides:
        return []
    base, trained = sides.values()
    wins, losses = extremes(trained, base, "shown", EXTREMES)
    name = words(last_trained(run))
    parts = (("Biggest wins", f"{name} above base", wins), ("Biggest losses", f"{name} below base", losses))
    return [
        (title, said, [(each, side_by_side(sides, each.case)) for each in found])
        for title, said, found in parts
        if found
    ]


def training_panels(run: RunRecord) -> list[Panel]:
    """A curve per figure of `PANELS` that the run recorded."""
    panels = []
    for stage, key, title, guide in PANELS:
        if guide is LOG_2 and not _starts_at_log_2(run):
            guide = None
        steps_with_it = recorded(run.training.get(stage, ()), key)
        points = [(step, value) for step, value in steps_with_it if math.isfinite(value)]
        if not points:
            continue
        lost = len(steps_with_it) - len(points)
        note = f" ({lost} step{'s' if lost > 1 else ''} not finite)" if lost else ""
        steps, values = zip(*thinned(points), strict=True)
        near = [*values, guide.y] if guide else [*values]
        room = LEAST_SPREAD * max(map(abs, near)) / 2  # a curve that hardly moves looks flat
        if max(near) - min(near) < 2 * room:
            near += [min(near) - room, max(near) + room]
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


def recorded(rows: Sequence[Values], key: str) -> list[tuple[float, float]]:
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
    from aloe_jax.train.objectives.settings import ObjectiveSettings

    section = run.config.get("preference")
    if not isinstance(section, Mapping) or "objective" not in section:
        return False
    known = {field.name for field in fields(ObjectiveSettings)}
    given = {name: value for name, value in section.items() if name in known}
    try:
        settings = read(ObjectiveSettings, plain(ObjectiveSettings()) | given, "config.preference")
    except InputError:  # of a version with other settings
        return False
    objective = OBJECTIVES.get(settings.objective)
    first = None if objective is None else objective.first_loss(settings)
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
    trees = [tree for name, result in run.results.items() if not is_control(name) for tree in result.trees]
    trees += run.trees.first if run.trees else ()
    return sorted({score.judge for tree in trees for node in tree.dialogue for score in node.scores})
