"""What the benchmark found: paired differences over common cases, criteria, measures of the dialogues, extremes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, Message
from eval.benchmark.crossed import Estimate, average_weights, linear
from eval.benchmark.dialogues import OVERALL, PERSONA, STORED, replies_of, score_of
from eval.benchmark.measures import DialogueMeasures, decay, held_share, measures, words_table
from eval.benchmark.metrics import ScaleMetrics
from eval.benchmark.paired import PairedDifference, paired_difference
from eval.benchmark.scores import Scale, ScoreTable, carries_persona, paired_table, score_table
from eval.report.reading import ModelResult

SCALES: tuple[Scale, ...] = ("shown", "persona")
EXTREMES = 2  # wins and losses that pages show
FOLLOW_UP = "follow_up"  # of `Hacking`
# Field of `DialogueMeasures` (or `FOLLOW_UP`), name on the page, digits after the decimal point.
MEASURES = (
    ("first_reference", "Turn of the first correct personal reference, where there is one", 1),
    ("referred", "Share of dialogues with a correct personal reference", 2),
    ("unrevealed", "Share of replies with a fact that the user had not shown", 3),
    ("identity_confusion", "Share of replies that claim the user's facts, or give it another's", 3),
    ("flattery", "Share of replies that flatter the user", 3),
    ("questions", "Questions per reply", 2),
    ("repetition", "Share of word runs repeated from own earlier replies", 3),
    ("words", "Words per reply", 1),
    ("facts", "Facts of the user named per reply", 2),
    ("hollow", "Share of replies in the user's style without content", 3),
    (FOLLOW_UP, "Share of follow-up questions that change with the answer", 2),
)


@dataclass(frozen=True)
class Contrast:
    """A paired difference, `first` minus `second`, by name."""

    first: str
    second: str
    scale: Scale
    found: PairedDifference


class Extreme(NamedTuple):
    """A case in which two models differ most: the mean of the score differences over its turns."""

    case: str
    difference: float


def metrics_on(result: ModelResult, scale: Scale) -> ScaleMetrics | None:
    """The metrics of a result on a scale; None if there are none."""
    return result.metrics if scale == "shown" or result.metrics is None else result.metrics.persona


def has_scale(result: ModelResult, scale: Scale) -> bool:
    """Whether replies of the result have scores on the scale."""
    return bool(result.scores) and (scale == "shown" or carries_persona(result.scores))


def restricted(result: ModelResult, cases: set[str]) -> ModelResult:
    """The result with some of its cases alone; its metrics are left out."""
    return replace(
        result,
        scores=tuple(record for record in result.scores if record.case in cases),
        trees=tuple(tree for tree in result.trees if tree.id in cases),
        metrics=None,
        truth=result.truth.within(cases) if result.truth else None,
    )


def common(results: Sequence[ModelResult]) -> set[str]:
    """The cases that all results have."""
    return set.intersection(*({record.case for record in result.scores} for result in results)) if results else set()


def difference(first: ModelResult, second: ModelResult, scale: Scale) -> PairedDifference | None:
    """The paired difference `first` minus `second` over their common cases; None if they have none, or no scores on the
    scale. Raises InputError as `paired_difference` does."""
    cases = common([first, second])
    if not cases or not has_scale(first, scale) or not has_scale(second, scale):
        return None
    sides = [restricted(each, cases) for each in (first, second)]
    tables = [score_table(each.scores, scale=scale) for each in sides]
    lengths = None
    if all(each.trees for each in sides):
        lengths = tuple(_words(each, table) for each, table in zip(sides, tables, strict=True))
    return paired_difference(tables[0], tables[1], lengths=lengths)  # type: ignore[arg-type]


def contrasts_of(results: Mapping[str, ModelResult], pairs: Sequence[tuple[str, str]]) -> list[Contrast]:
    """The paired differences of pairs of results on each scale that both have."""
    return [
        Contrast(first, second, scale, found)
        for first, second in pairs
        for scale in SCALES
        if (found := difference(results[first], results[second], scale)) is not None
    ]


def _words(result: ModelResult, table: ScoreTable) -> Float[np.ndarray, "N K"]:
    dialogues = result.dialogues
    return words_table([said(dialogues[case]) if case in dialogues else [] for case in table.cases],
                       table.scores.shape[1])  # fmt: skip


def said(tree: Conversation) -> list[Message]:
    """The user's messages and the replies of the model under test in turn, without stored replies between them."""
    nodes = [node for node in tree.dialogue if node.condition != STORED and node.role != "system"]
    return [Message(role=node.role, content=node.text) for node in nodes]


def extremes(first: ModelResult, second: ModelResult, scale: Scale, count: int) -> tuple[list[Extreme], list[Extreme]]:
    """Of the cases that both have, those that `first` wins by most and those that it loses by most, at most `count`
    each, the largest difference first. A case is in one of them at most; cases without a difference are in neither."""
    cases = common([first, second])
    if not cases or not has_scale(first, scale) or not has_scale(second, scale):
        return [], []
    tables = [score_table(restricted(each, cases).scores, scale=scale) for each in (first, second)]
    table = paired_table(tables[0], tables[1])
    known = ~np.isnan(table.scores).all(axis=1)
    means = {
        case: float(np.nanmean(row)) for case, row, has in zip(table.cases, table.scores, known, strict=True) if has
    }
    found = sorted(
        (Extreme(case, mean) for case, mean in means.items()), key=lambda each: (-each.difference, each.case)
    )
    wins = [each for each in found if each.difference > 0][:count]
    losses = [each for each in reversed(found) if each.difference < 0][:count]
    return wins, losses


def typical(first: ModelResult, second: ModelResult, scale: Scale = "shown") -> Extreme | None:
    """The case whose difference is nearest to the mean of all cases' differences; None without common cases."""
    wins, losses = extremes(first, second, scale, len(first.scores))
    cases = common([first, second])
    both = {each.case: each.difference for each in (*wins, *losses)}
    both |= {case: 0.0 for case in sorted(cases) if case not in both}
    if not both:
        return None
    mean = sum(both.values()) / len(both)
    case = min(both, key=lambda name: (abs(both[name] - mean), name))
    return Extreme(case, both[case])


def criteria(result: ModelResult) -> dict[str, Estimate]:
    """The mean of each criterion of the judge over all replies, but for the two scales themselves."""
    if not result.scores or not result.trees:
        return {}
    table = score_table(result.scores)
    names = dict.fromkeys(
        score.criterion for tree in result.trees for node in replies_of(tree) for score in node.scores
    )
    found = {}
    for name in names:
        if name in (OVERALL, PERSONA):
            continue
        values = np.full_like(table.scores, np.nan)
        for row, case in enumerate(table.cases):
            for turn, node in enumerate(_replies(result, case)[: len(values[row])]):
                value = score_of(node, name)
                values[row, turn] = np.nan if value is None else value
        estimate = linear(replace(table, scores=values), average_weights(table.scores.shape[1]))
        if estimate is not None:
            found[name] = estimate.estimate()
    return found


def _replies(result: ModelResult, case: str) -> list:
    return replies_of(result.dialogues[case]) if case in result.dialogues else []


def behaviour(result: ModelResult) -> dict[str, Estimate]:
    """The mean of each of `MEASURES` over the dialogues that have it, with its interval over users."""
    if not result.scores or not result.trees:
        return {}
    table = score_table(result.scores)
    by_case = {
        tree.id: measures(tree.persona, said(tree)) for tree in result.trees if tree.persona and replies_of(tree)
    }
    found = {}
    for name, _, _ in MEASURES:
        values = [_follow_up(result, case) if name == FOLLOW_UP else _value(by_case.get(case), name)
                  for case in table.cases]  # fmt: skip
        if not np.isnan(values).all():
            made = linear(replace(table, scores=np.array(values)[:, None]), average_weights(1))
            if made is not None:
                found[name] = made.estimate()
    return found


def _value(one: DialogueMeasures | None, name: str) -> float:
    value = None if one is None else getattr(one, name)
    return np.nan if value is None else float(value)


def _follow_up(result: ModelResult, case: str) -> float:
    share = None if result.hacking is None else result.hacking.share(case)
    return np.nan if share is None else share


def holding(result: ModelResult, scale: Scale) -> tuple[Estimate | None, Estimate | None]:
    """The share of dialogues with every turn at 4 or more, and the decay after turn 5."""
    if not has_scale(result, scale):
        return None, None
    table = score_table(result.scores, scale=scale)
    return held_share(table), decay(table)


def check_same_users(results: Sequence[tuple[str, ModelResult]]) -> None:
    """InputError if two results, each with its name, have cases of one name with different personas, or users that were
    drawn with different seeds."""
    name, one = results[0]
    personas = {tree.id: tree.persona for tree in one.trees}
    for other_name, other in results[1:]:
        seeds = [each.manifest.seed for each in (one, other) if each.manifest is not None]
        if len(set(seeds)) > 1:
            raise InputError(
                f"'{other_name}' has users of seed {seeds[1]} and '{name}' of seed {seeds[0]}: the cases are not the "
                "same; run both with the same --config.seed"
            )
        for tree in other.trees:
            if personas.get(tree.id, tree.persona) != tree.persona:
                raise InputError(
                    f"case '{tree.id}' has another persona in '{other_name}' than in '{name}': the cases are not the "
                    "same; measure both with the same personas (config.personas)"
                )
