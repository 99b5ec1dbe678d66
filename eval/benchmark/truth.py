"""Labels beside a benchmark's result, and its metrics with the scores that they correct.

| labels of a result | where |
|---|---|
| people's | `ratings.jsonl` in its folder |
| the scripted judge's, which are the truth for scripted personas | `scores.jsonl` of its control `scripted_judge` |

People's come first. A result without either, or with labels that cannot be used, keeps its raw scores alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import parse, read_trees
from eval.benchmark.calibration import Calibration, Refusal, calibrate
from eval.benchmark.cases import TREES
from eval.benchmark.entries import SCRIPTED_JUDGE
from eval.benchmark.labels import RATINGS, Label, check_replies, read_labels
from eval.benchmark.metrics import Metrics, ScaleMetrics, metrics, on_scale
from eval.benchmark.restraint import TurnKind, by_turn_kind
from eval.benchmark.results import METRICS
from eval.benchmark.scores import SCORES, Scale, ScoreRecord, carries_persona, read_scores, score_table

M = TypeVar("M", bound=ScaleMetrics)


@dataclass(frozen=True)
class Truth:
    """Labels of a result's replies, from `source`. `whole`: they are no random sample, so that they serve only if they
    are of all cases. `refused`: why they cannot be read."""

    source: str
    labels: tuple[Label, ...] = ()
    whole: bool = False
    refused: str = ""

    def within(self, cases: set[str]) -> Truth:
        """Those of some cases alone."""
        return replace(self, labels=tuple(label for label in self.labels if label.case in cases))


def find_truth(directory: epath.Path) -> Truth | None:
    """The labels of the result in a folder; None if it has none. A file that cannot be read is no error: it says why
    in `refused`."""
    ratings, control = directory / RATINGS, f"{directory.name}+{SCRIPTED_JUDGE}"
    if ratings.exists():
        return _read(ratings, RATINGS, directory / TREES)
    scripted = directory.parent / control / SCORES
    return replace(_read(scripted, control), whole=True) if scripted.exists() else None


def _read(path: epath.Path, source: str, dialogues: epath.Path | None = None) -> Truth:
    try:
        labels = read_labels(path)
        if dialogues is not None:
            check_replies(dialogues, labels, path)
    except InputError as error:
        return Truth(source, refused=str(error))
    return Truth(source, tuple(labels))


def corrected_metrics(found: Metrics, scores: Sequence[ScoreRecord], truth: Truth | None) -> Metrics:
    """The metrics of `scores` with what the labels make of them on each scale, beside the raw figures."""
    persona = None if found.persona is None else _with(found.persona, scores, truth, "persona")
    return _with(found, scores, truth, "shown").model_copy(update={"persona": persona})


def _with(found: M, scores: Sequence[ScoreRecord], truth: Truth | None, scale: Scale) -> M:
    return found.model_copy(update={"corrected": correction(scores, truth, scale, found.bootstrap.level)})


def outdated(directory: epath.Path) -> bool:
    """Whether the labels of a result are others than its `metrics.json` was corrected by. A file that cannot be read is
    not; whoever reads it says so."""
    try:
        before, now = _stored(directory)
    except InputError:
        return False
    return before != now


def write_corrections(directory: epath.Path) -> None:
    """Write the `metrics.json` of a result as its labels of now correct it, if that is not how it is."""
    before, now = _stored(directory)
    if now != before:
        files.write_json(directory / METRICS, now.model_dump(mode="json"))


def _stored(directory: epath.Path) -> tuple[Metrics, Metrics]:
    """The metrics in a result's folder as they are stored, and as its labels of now correct them."""
    path = directory / METRICS
    found = parse(Metrics, files.read_text(path), str(path))
    truth = find_truth(directory)
    return found, corrected_metrics(found, read_scores(directory / SCORES) if truth else (), truth)


def correction(
    scores: Sequence[ScoreRecord], truth: Truth | None, scale: Scale, level: float = 0.95
) -> Calibration | Refusal | None:
    """The judge of `scores` held against the labels on a scale; why they cannot be used; None without any there."""
    if truth is None:
        return None
    if truth.refused:
        return Refusal(labels=truth.source, refused=truth.refused) if scale == "shown" else None
    if all(label.on(scale) is None for label in truth.labels):
        return None
    cases, labelled = {record.case for record in scores}, {label.case for label in truth.labels}
    try:
        if truth.whole and cases - labelled:
            raise InputError(
                f"the scripted judge scored {len(cases & labelled)} of {len(cases)} cases, the first ones, which are "
                f"no random sample; set config.benchmark.control_cases={len(cases)}"
            )
        return calibrate(score_table(scores, scale=scale), truth.labels, scale, level, truth.source)
    except InputError as error:
        return Refusal(labels=truth.source, refused=str(error))


def metrics_file(
    path: epath.PathLike,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    scale: Scale | None = None,
    labels: epath.PathLike | None = None,
) -> dict[str, object]:
    """The content of `metrics.json` for a `scores.jsonl`, as `aloe metrics` prints it; with `scale` that scale alone.

    `labels` is a file of labels; without one those beside the scores count. Raises InputError as `read_scores` does,
    without any score on the scale, and, with `labels`, for labels that cannot be used.
    """
    place, records = epath.Path(path), read_scores(path)
    if scale == "persona" and not carries_persona(records):
        raise InputError(f"{path} has no score_persona in any line; use --scale=shown")
    truth = find_truth(place.parent) if labels is None and place.name == SCORES else None
    if labels is not None:
        marks = read_labels(labels)
        check_replies(place.parent / TREES, marks, labels)
        for name in (scale,) if scale else _labelled(records, marks):
            try:
                calibrate(score_table(records, scale=name), marks, name, level)
            except InputError as error:
                raise InputError(f"{labels}, scale {name}: {error}") from None
        truth = Truth(str(labels), tuple(marks))
    if scale is None:
        found = corrected_metrics(metrics(records, resamples, seed, level), records, truth)
        if place.name == SCORES and (place.parent / TREES).exists():
            found = found.model_copy(update={"by_turn_kind": _by_turn_kind(records, place.parent)})
        return found.model_dump(mode="json")
    return _with(on_scale(records, scale, resamples, seed, level), records, truth, scale).model_dump(mode="json")


def _by_turn_kind(records: Sequence[ScoreRecord], directory: epath.Path) -> dict[str, TurnKind] | None:
    """The figures by kind of turn of the dialogues beside the scores."""
    cases = {record.case for record in records}
    return by_turn_kind(records, [tree for tree in read_trees(directory / TREES) if tree.id in cases])


def _labelled(records: Sequence[ScoreRecord], labels: Sequence[Label]) -> list[Scale]:
    """The scales to be corrected: `shown`, and `persona` where both scores and labels have it."""
    both = carries_persona(records) and any(label.on("persona") is not None for label in labels)
    return ["shown", "persona"] if both else ["shown"]
