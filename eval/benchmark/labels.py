"""Labels of single replies: what people, or the scripted world, say of replies that a judge has scored.

A label is a line `{"case", "turn", "score"}` of a JSONL file, with a `labeller` where there are several, whose mean
then counts. People rate replies in the viewer, which writes `ratings.jsonl` beside a result's scores, or fill in a
`label_sheet`; for scripted personas the `scores.jsonl` of the control `scripted_judge` is such a file, with both
scales. The labels are to be a random sample of the judged replies.
"""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath
from pydantic import ConfigDict, Field

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, Record, parse, read_trees
from data_gen.seeds import stable_seed
from eval.benchmark.cases import TREES
from eval.benchmark.dialogues import replies_of
from eval.benchmark.scores import FiniteScore, Scale, ScoreRecord, read_scores

RATINGS = "ratings.jsonl"  # people's labels of a result, in its folder


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


def read_labels(path: epath.PathLike) -> list[Label]:
    """The labels of a file in file order. InputError for a missing file and, with its number, for a broken line."""
    found = []
    for number, line in files.lines(path):
        place = f"{path} line {number}"
        try:
            found.append(parse(Label, line, place, strict=False))
        except InputError:
            if '"judge_label"' not in line:
                raise
            raise InputError(
                f"{place}: a preference between two replies, as `aloe view` stores them and whose kappa it shows; "
                "expected scores of single replies, {case, turn, score}: rate replies there, or fill in what "
                "--label-sheet prints"
            ) from None
    return found


def check_replies(trees: epath.Path, labels: Sequence[Label], path: epath.PathLike) -> None:
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


def in_random_order(records: Sequence[ScoreRecord], seed: int = 0) -> list[ScoreRecord]:
    """The scored ones in an order that follows from the seed, case and turn: as many of the first as one likes are a
    random sample, and more of them hold the fewer."""
    scored = [record for record in records if record.score is not None]
    return sorted(scored, key=lambda record: order_of(record.case, record.turn, seed))


def order_of(case: str, turn: int, seed: int = 0) -> int:
    """By what replies are ordered at random."""
    return stable_seed("labels", seed, case, turn)


def to_label(tree: Conversation, turn: int) -> dict[str, object]:
    """What a labeller is shown of a reply: case, turn, the messages before it, and its text."""
    node = replies_of(tree)[turn - 1]
    before = [{"role": each.role, "content": each.text} for each in tree.path_to(node.id)[:-1]]
    return {"case": tree.id, "turn": turn, "dialogue": before, "reply": node.text}


def label_sheet(path: epath.PathLike, count: int, seed: int = 0) -> list[dict[str, object]]:
    """`count` scored replies of a benchmark's result, drawn at random, for people to fill in: dialogue, reply, and a
    score of null. The judge's score is left out. InputError without the dialogues, or for more than there are."""
    scores = epath.Path(path)
    trees = {tree.id: tree for tree in read_trees(files.existing(scores.parent / TREES, "dialogues beside the scores"))}
    drawn = in_random_order([record for record in read_scores(path) if record.case in trees], seed)
    if not 1 <= count <= len(drawn):
        raise InputError(f"--label-sheet: {count} must be at least 1 and at most {len(drawn)}, the scored replies")
    lines = (to_label(trees[record.case], record.turn) for record in drawn[:count])
    return [{**line, "labeller": "", "score": None} for line in lines]
