"""Sentences of the report that depend on the run: its result, its size, and what such a run cannot show."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aloe_jax.run.manifest import Values
from eval.benchmark.metrics import Metrics, ScaleMetrics
from eval.report.reading import RunRecord, TreeSummary
from eval.report.tables import bracket, count, decimal, duration, leaves

MODEL_NAMES = {"base": "base", "sft": "SFT", "preference": "preference"}
STEPS = {"sft": "SFT", "preference": "SFT and preference training"}
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


def result_sentence(results: Mapping[str, Metrics], differences: Mapping[str, ScaleMetrics]) -> str:
    """The sentence at the top: what changed, by how much, and whether it could be chance."""
    if not results:
        return "There are no benchmark results in this run yet, so nothing is known about its models."
    model = list(differences)[-1] if differences else None
    if model is None or differences[model].average is None:
        only = ", ".join(f"{MODEL_NAMES[name]} {decimal(result.average, 2)}" for name, result in results.items())
        return f"Average alignment level: {only}. There is no trained model with a base to compare it with yet."
    gain = differences[model]
    said = (
        f"After {STEPS[model]} the replies score {decimal(gain.average, 2, signed=True)} points against the base "
        f"model's, averaged over {gain.turns} turns"
    )
    if gain.ci.average is None:
        return f"{said}. One case gives no interval, so this says nothing about other users."
    interval = bracket(gain.ci.average, 2, signed=True)
    return f"{said} ({100 * gain.bootstrap.level:g} % interval {interval}). {_reading(gain.ci.average)}"


def _reading(interval: tuple[float, float]) -> str:
    if interval[0] > 0:
        return "The interval lies above zero: the trained model scores higher on these cases."
    if interval[1] < 0:
        return "The interval lies below zero: the trained model scores lower on these cases."
    return "The interval holds zero: this run does not show a change."


def interval_caveat(results: Mapping[str, Metrics]) -> str:
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


def sizing(run: RunRecord, results: Mapping[str, Metrics]) -> list[str]:
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
