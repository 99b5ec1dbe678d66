"""A judge held against labels of the same replies: how far it agrees with them, and scores that they correct.

A label is a line `{"case", "turn", "score"}` of a JSONL file, with a `labeller` where there are several, whose mean
then counts. People fill in a `label_sheet`; for scripted personas the `scores.jsonl` of the control `scripted_judge` is
such a file, with both scales. The labels are to be a random sample of the judged replies.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float
from pydantic import ConfigDict, Field

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Record, parse, read_trees
from data_gen.agreement import gwet_ac2, krippendorff_alpha, weighted_kappa
from eval.benchmark.cases import TREES
from eval.benchmark.corrected import Corrected, corrected
from eval.benchmark.dialogues import replies_of
from eval.benchmark.metrics import metrics_file
from eval.benchmark.scores import FiniteScore, Scale, ScoreTable, read_scores, score_table

GRADES = (1.0, 2.0, 3.0, 4.0, 5.0)
LARGEST = 1e100


class Label(Record):
    """A line of a file of labels; other keys are ignored. A score of null is a reply that nobody has labelled yet."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    case: str
    turn: int = Field(ge=1, strict=True)
    score: FiniteScore | None
    score_persona: FiniteScore | None = None
    labeller: str = ""
    reply: str | None = Field(default=None, description="the text that was labelled")

    def on(self, scale: Scale) -> float | None:
        """The label on a scale."""
        return self.score if scale == "shown" else self.score_persona


class Calibration(Record):
    """The judge against the labels: `labelled` replies have both. Kappa and AC2 (quadratic weights) are of whole
    grades, to which expected scores are rounded, alpha (interval) of the scores as they are; `between` is alpha among
    the labellers. Null where a coefficient is not defined. `average` is the average score, raw and corrected."""

    labelled: int
    labellers: int
    weighted_kappa: float | None
    krippendorff_alpha: float | None
    gwet_ac2: float | None
    between: float | None
    average: Corrected


def calibrated_metrics(
    path: epath.PathLike,
    labels: epath.PathLike,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    scale: Scale | None = None,
) -> dict[str, object]:
    """The content of `metrics.json` as `metrics_file` gives it, with a `Calibration` as `corrected` on each scale that
    the labels have. Raises InputError as `metrics_file`, `read_labels` and `corrected` do, and if no label is on the
    scale."""
    found = metrics_file(path, resamples, seed, level, scale)
    records, marks = read_scores(path), read_labels(labels)
    of_scales: dict[Scale, dict[str, object]] = {scale or "shown": found}
    if isinstance(inner := found.get("persona"), dict) and any(mark.on("persona") is not None for mark in marks):
        of_scales["persona"] = inner
    _check_replies(epath.Path(path).parent / TREES, marks, labels)
    for name, block in of_scales.items():
        try:
            calibration = calibrate(score_table(records, scale=name), marks, name, level)
        except InputError as error:
            raise InputError(f"{labels}, scale {name}: {error}") from None
        block["corrected"] = calibration.model_dump(mode="json")
    return found


def calibrate(table: ScoreTable, labels: Sequence[Label], scale: Scale = "shown", level: float = 0.95) -> Calibration:
    """The agreement of a table's scores with the labels on a scale, and the average corrected by them.

    Raises InputError for a label of a reply that is not in the table, for two of one labeller, and as `corrected` does.
    """
    each = _by_labeller(table, [label for label in labels if label.on(scale) is not None], scale)
    rated = ~np.isnan(each)
    truth = np.full(table.scores.shape, np.nan)
    np.divide(np.nansum(each, axis=0), rated.sum(axis=0), out=truth, where=rated.any(axis=0))
    both = ~np.isnan(truth) & ~np.isnan(table.scores)
    pair = np.stack([table.scores[both], truth[both]])
    if np.nanmax(np.abs([*table.scores.ravel(), *truth.ravel()]), initial=0.0) > LARGEST:
        raise InputError(f"scores or labels exceed {LARGEST:g}, so that their squares overflow; give grades")
    binary = np.isin(table.scores[~np.isnan(table.scores)], (0, 1)).all() and np.isin(truth[both], (0, 1)).all()
    average = corrected(table, truth, "binary" if binary else "graded", level)
    grades = np.rint(pair)
    possible = GRADES if np.isin(grades, GRADES).all() else None
    return Calibration(
        labelled=average.labelled,
        labellers=len(each),
        weighted_kappa=weighted_kappa(grades[0], grades[1], "quadratic", possible),
        krippendorff_alpha=krippendorff_alpha(pair, "interval"),
        gwet_ac2=gwet_ac2(grades, "quadratic", possible),
        between=krippendorff_alpha(each.reshape(len(each), -1), "interval") if len(each) > 1 else None,
        average=average,
    )


def _by_labeller(table: ScoreTable, labels: Sequence[Label], scale: Scale) -> Float[np.ndarray, "L N K"]:
    """The labels of each labeller in the layout of the table, NaN where there is none."""
    names = {name: place for place, name in enumerate(sorted({label.labeller for label in labels}))}
    cases = {case: place for place, case in enumerate(table.cases)}
    found = np.full((len(names), *table.scores.shape), np.nan)
    for label in labels:
        if label.case not in cases or label.turn > table.scores.shape[1]:
            raise InputError(
                f"case '{label.case}' turn {label.turn} is labelled but not among the scores; label replies of that "
                "file"
            )
        place = names[label.labeller], cases[label.case], label.turn - 1
        if not np.isnan(found[place]):
            who = f" by '{label.labeller}'" if label.labeller else ""
            raise InputError(f"case '{label.case}' turn {label.turn} is labelled twice{who}; keep one line of it")
        found[place] = label.on(scale)
    return found


def read_labels(path: epath.PathLike) -> list[Label]:
    """The labels of a file in file order. InputError for a missing file and, with its number, for a broken line."""
    found = []
    for number, line in files.lines(path):
        place = f"{path} line {number}"
        files.parse_json(line, place, finite=False)  # refuses a key that stands twice
        try:
            found.append(parse(Label, line, place, strict=False))
        except InputError:
            if '"judge_label"' not in line:
                raise
            raise InputError(
                f"{place}: a preference between two replies, as `aloe view` stores them and whose kappa it shows; "
                "expected scores of single replies, {case, turn, score}: fill in what --label-sheet prints"
            ) from None
    return found


def _check_replies(trees: epath.Path, labels: Sequence[Label], path: epath.PathLike) -> None:
    """InputError for a label whose text is not that of the reply in the dialogues beside the scores."""
    told = {(label.case, label.turn): label.reply for label in labels if label.reply is not None}
    if not told or not trees.exists():
        return
    for tree in read_trees(trees):
        for turn, node in enumerate(replies_of(tree), start=1):
            if told.get((tree.id, turn), node.text) != node.text:
                raise InputError(
                    f"{path}: case '{tree.id}' turn {turn} is labelled for another reply than that in {trees}; label "
                    "the replies of this model"
                )


def label_sheet(path: epath.PathLike, count: int, seed: int = 0) -> list[dict[str, object]]:
    """`count` scored replies of a benchmark's result, drawn at random, for people to fill in: dialogue, reply, and a
    score of null. The judge's score is left out. InputError without the dialogues, or for more than there are."""
    scores = epath.Path(path)
    trees = {tree.id: tree for tree in read_trees(files.existing(scores.parent / TREES, "dialogues beside the scores"))}
    scored = [record for record in read_scores(path) if record.score is not None and record.case in trees]
    if not 1 <= count <= len(scored):
        raise InputError(f"--label-sheet: {count} must be at least 1 and at most {len(scored)}, the scored replies")
    lines: list[dict[str, object]] = []
    for record in random.Random(f"labels {seed}").sample(scored, count):
        tree = trees[record.case]
        node = replies_of(tree)[record.turn - 1]
        before = [{"role": each.role, "content": each.text} for each in tree.path_to(node.id)[:-1]]
        line = {"case": record.case, "turn": record.turn, "dialogue": before, "reply": node.text}
        lines.append({**line, "labeller": "", "score": None})
    return lines
