"""Sentences of the report that depend on the run: its result, its size, and what such a run cannot show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aloe_jax.run.manifest import Values, leaves
from aloe_jax.train.names import BASE, CHAIN
from data_gen.publish.stored import StoredModels
from eval.benchmark.metrics import ScaleMetrics
from eval.benchmark.paired import Difference
from eval.benchmark.scores import Scale
from eval.report.findings import Contrast
from eval.report.names import is_control, words
from eval.report.reading import RunRecord, TreeSummary
from eval.report.tables import bracket, count, decimal, duration

STEPS = {"sft": "supervised fine-tuning", "preference": "preference training", "online": "on-policy training"}
SCALE_WORDS: Mapping[Scale, str] = {"shown": "on what users had shown", "persona": "counting the whole persona"}
SMALL_MODEL = 1_000_000_000  # parameters; below, the page says what a model of that size cannot show
FEW_LEVELS = 5  # profiles or personalities; below, bands from the two-way bootstrap are clearly too narrow
PUBLISHED_TREES = 3000  # conversations behind the published results (paper, section 2)


def model_name(config: Values) -> str:
    """The name of the start model in the config; a general word if there is none."""
    model = config.get("model")
    if isinstance(model, Mapping):
        model = next((model[key] for key in ("source", "name", "path", "id") if model.get(key)), None)
    return str(model) if model else "the base model"


def parameters(run: RunRecord) -> float | None:
    """The model's parameters: `parameters` in the counts of a manifest, else the size in its name (`-135M`)."""
    for manifest in run.manifests.values():
        found = manifest.counts.get("parameters")
        if isinstance(found, int | float):
            return float(found)
    named = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([MB])(?![a-z])", model_name(run.config), re.IGNORECASE)
    return float(named[1]) * {"M": 1e6, "B": 1e9}[named[2].upper()] if named else None


def size_in_words(size: float) -> str:
    """The size as 135M or 8B."""
    return f"{size / 1e9:.3g}B" if size >= 1e9 else f"{size / 1e6:.3g}M"


def result_sentence(run: RunRecord, contrasts: Sequence[Contrast]) -> str:
    """The sentence at the top: what was learned, and from whom. `contrasts` are differences to `base` among others."""
    measured = {name: each.metrics for name, each in run.results.items() if each.metrics and not is_control(name)}
    if not measured:
        return "There are no benchmark results in this run yet, so nothing is known about its models."
    clauses: list[str] = []
    for model in CHAIN:
        found = [each for each in contrasts if (each.first, each.second) == (model, BASE) and each.found.average]
        if found:
            after = f"{STEPS[model]} as well" if clauses else f"{STEPS[model]}{taught(run)}"
            clauses.append(f"after {after}, {_gain(found)}")
    if clauses:
        said = "; ".join(clauses)
        return f"{said[0].upper()}{said[1:]}."
    only = ", ".join(f"{words(name)} {decimal(each.average, 2)}" for name, each in measured.items())
    return f"Average alignment level: {only}. There is no trained model with a base to compare it with yet."


def taught(run: RunRecord) -> str:
    """How many trees there were and who wrote the better replies, as ` on 40 trees by the scripted teacher`; empty if
    the run does not say."""
    grown = run.manifests.get("conversations")
    count_ = grown.counts.get("trees") if grown else None
    trees = count_ if isinstance(count_, int) else run.trees.conversations if run.trees else None
    if trees is None:
        return ""
    models = StoredModels.of(run.config)
    teacher = models.roles.get("teacher")
    said = f" on {count(trees)} tree{'' if trees == 1 else 's'}"
    if teacher is None or not teacher.player:
        return said
    return f"{said} by " + ("the scripted teacher" if teacher.player == "scripted" else models.model_of(teacher))


def _gain(found: Sequence[Contrast]) -> str:
    """What a model's replies score against base on each scale; `found` is not empty."""
    cases = found[0].found.cases
    counted = f" ({cases} case{'' if cases == 1 else 's'})"
    shown = [(each, each.found.average) for each in found]
    if all(_open(average) for _, average in shown):
        values = " and ".join(f"{_value(average, 1, True)} {SCALE_WORDS[each.scale]}" for each, average in shown)
        return f"no difference to base could be shown: {values}{counted}"
    said: list[str] = []
    for each, average in shown:
        scale = f"{SCALE_WORDS[each.scale]}{'' if said else counted}"
        if _open(average):
            said.append(f"no difference could be shown {scale}: {_value(average, 1, True)}")
        else:
            assert average is not None
            sign = 1 if average.estimate > 0 else -1
            side = "above" if sign > 0 else "below"
            verb = "" if said and said[-1].startswith("replies") else "replies score "
            said.append(f"{verb}{_value(average, sign)} {side} base {scale}")
    return ", and ".join(said)


def _open(average: Difference | None) -> bool:
    """Whether the interval of a difference contains zero, or there is none."""
    return average is None or average.interval is None or average.interval[0] <= 0 <= average.interval[1]


def _value(average: Difference | None, sign: int, signed: bool = False) -> str:
    """A difference times `sign`, with its interval."""
    if average is None:
        return "undefined"
    edges = sorted(sign * edge for edge in average.interval) if average.interval else None
    interval = bracket((edges[0], edges[1]), 2, signed) if edges else "without an interval"
    return f"{decimal(sign * average.estimate, 2, signed)} {interval}"


def interval_caveat(results: Mapping[str, ScaleMetrics]) -> str:
    """How far the intervals can be trusted; empty if there are enough profiles and personalities."""
    if not results:
        return ""
    made = next(iter(results.values())).bootstrap
    names = {"profile": made.profiles, "personality": made.personalities}
    if made.profiles == made.personalities == 1:
        return "All cases share one profile and one personality, so there are no intervals."
    fixed = [name for name, levels in names.items() if levels == 1]
    if fixed:
        return f"All cases share one {fixed[0]}: intervals say nothing about another {fixed[0]}."
    if min(names.values()) < FEW_LEVELS:
        return (
            f"With {made.profiles} profiles and {made.personalities} personalities the intervals of single turns "
            "are too narrow: resampling so few cannot show how different other users would be."
        )
    return ""


def sizing(run: RunRecord, results: Mapping[str, ScaleMetrics]) -> list[str]:
    """The size of the run, from its files and its config."""
    said = []
    if run.trees is not None:
        said.append(_trees_sentence(run.trees))
    if results:
        one = next(iter(results.values()))
        said.append(
            f"The benchmark had {one.cases} held-out cases ({one.bootstrap.profiles} profiles, "
            f"{one.bootstrap.personalities} personalities) of {one.turns} turns for each model."
        )
    replies = ("roles.responder.max_tokens", "benchmark.max_tokens")
    limits = sorted({value for key, value in leaves(run.config) if key in replies and isinstance(value, int)})
    if limits:
        said.append(f"Replies were cut at {' or '.join(count(limit) for limit in limits)} tokens.")
    if run.manifests:
        said.append(f"All stages together took {duration(sum(each.seconds for each in run.manifests.values()))}.")
    if run.trees is not None and run.trees.conversations * 10 < PUBLISHED_TREES:
        said.append(
            f"This size is for a run of minutes, not for conclusions: the published results come from over "
            f"{PUBLISHED_TREES:,} conversations of 10 turns and a benchmark of 100 cases of 10 turns."
        )
    return said


def _trees_sentence(trees: TreeSummary) -> str:
    longest = f", the longest of {trees.reply_tokens} tokens" if trees.reply_tokens else ""
    return (
        f"Training used {trees.conversations:,} conversation trees of up to {trees.turns} turns with up to "
        f"{trees.candidates} candidate replies per turn: {trees.replies:,} replies{longest}, and "
        f"{trees.preferences:,} preference pairs."
    )


def small_model_limits(run: RunRecord) -> str:
    """What a small model cannot show; empty for a model with a billion parameters or more, or of unknown size."""
    size = parameters(run)
    if size is None or size >= SMALL_MODEL:
        return ""
    return (
        f"A model of {size_in_words(size)} parameters can show that the pipeline works from end to end, not that the "
        "method does. A model this small follows instructions loosely, so the hint changes its replies little and "
        "preference pairs carry much noise; what it can pick up is surface style (length, punctuation, a question at "
        "the end) rather than insight into a user. Neither a gain nor its absence on this page says what a model "
        "fifty times larger would do: for that, run the same stages with one."
    )
