"""Labels: people's preferences between two replies, each a line of `labels.jsonl` with the judge's beside it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from aloe_jax.errors import InputError
from data_gen.agreement import Choice
from eval.viewer.json_trees import JsonNode, JsonTree
from eval.viewer.tail import TailedFile, parse

CHOICES: tuple[Choice, ...] = ("first", "second", "tie")
NAME_CHARACTERS = 60


@dataclass(frozen=True)
class Label:
    """One labeller's preference between two replies to the same message, a line of `labels.jsonl`.

    `first` and `second` are in the order in which they were shown. `judge_label` is None if the judge did not compare
    the two, and a tie if it scored both and preferred neither; `judge_margin` (2p - 1, never negative) is that of its
    preference. `blind` is whether the judge's figures were hidden from the labeller.
    """

    time: str
    conversation: str
    parent: str | None
    first: str
    second: str
    label: Choice
    chosen: str | None
    rejected: str | None
    labeller: str
    blind: bool
    judge: str | None
    judge_label: Choice | None
    judge_margin: float | None

    @property
    def pair(self) -> tuple[str, str, str]:
        """The key of the pair, whichever reply was shown first."""
        return (self.conversation, min(self.first, self.second), max(self.first, self.second))


@dataclass(frozen=True)
class LabelRequest:
    """A label as the page sends it."""

    conversation: str
    first: str
    second: str
    label: Choice
    labeller: str
    blind: bool = False

    @classmethod
    def of(cls, body: object) -> LabelRequest:
        """The request of a JSON body. InputError for the first field that is wrong."""
        if not isinstance(body, dict):
            raise InputError("the body must be a JSON object")
        known = {"conversation", "first", "second", "label", "labeller", "blind"}
        if unknown := sorted(set(body) - known):
            raise InputError(f"field '{unknown[0]}' is not known; expected {', '.join(sorted(known))}")
        for name in ("conversation", "first", "second"):
            if not isinstance(body.get(name), str) or not body[name].strip():
                raise InputError(f"field '{name}' must be a text that is not empty")
        if body.get("label") not in CHOICES:
            raise InputError(f"field 'label' is {body.get('label')!r}; expected first, second or tie")
        blind = body.get("blind", False)
        if not isinstance(blind, bool):
            raise InputError("field 'blind' must be true or false")
        labeller = labeller_of(body.get("labeller"))
        return cls(body["conversation"], body["first"], body["second"], body["label"], labeller, blind)


def labeller_of(value: object) -> str:
    """The name of a labeller in a request. InputError for anything else."""
    if not isinstance(value, str) or not value.strip():
        raise InputError("field 'labeller' must be a text that is not empty")
    if len(name := value.strip()) > NAME_CHARACTERS or not name.isprintable():
        raise InputError(f"field 'labeller' must be a name of at most {NAME_CHARACTERS} printable characters")
    return name


def label(request: LabelRequest, tree: JsonTree) -> Label:
    """The label of a request about `tree`. InputError unless the two are different replies to one message."""
    nodes = {node["id"]: node for node in tree["nodes"] if node["role"] == "assistant"}
    for name in (request.first, request.second):
        if name not in nodes:
            raise InputError(f"conversation '{request.conversation}' has no reply '{name}'")
    first, second = nodes[request.first], nodes[request.second]
    if first is second or first.get("parent") != second.get("parent"):
        raise InputError(f"'{request.first}' and '{request.second}' are not two replies to the same message")
    chosen, rejected = {
        "first": (request.first, request.second),
        "second": (request.second, request.first),
        "tie": (None, None),
    }[request.label]
    judge, judge_label, margin = judgement(tree, first, second)
    return Label(
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        conversation=request.conversation,
        parent=first.get("parent"),
        first=request.first,
        second=request.second,
        label=request.label,
        chosen=chosen,
        rejected=rejected,
        labeller=request.labeller,
        blind=request.blind,
        judge=judge,
        judge_label=judge_label,
        judge_margin=margin,
    )


def judgement(tree: JsonTree, first: JsonNode, second: JsonNode) -> tuple[str | None, Choice | None, float | None]:
    """The judge of the two replies, its choice and its margin.

    The file holds preferences only, so two scored replies without one were a tie for the judge: it found them equal,
    or its verdict turned with the order.
    """
    both = {first["id"], second["id"]}
    for pair in tree.get("preferences", ()):
        if {pair["chosen"], pair["rejected"]} == both:
            margin = pair.get("margin", 1.0)
            preferred = pair["chosen"] if margin > 0 else pair["rejected"]
            choice: Choice = "tie" if margin == 0 else "first" if preferred == first["id"] else "second"
            return pair.get("judge"), choice, abs(margin)
    if shared := sorted(_scorers(first) & _scorers(second)):
        return shared[0], "tie", None
    return None, None, None


def _scorers(node: JsonNode) -> set[str]:
    """The judges that scored a reply."""
    return {score["judge"] for score in node.get("scores", ()) if score["value"] is not None}


class LabelFile:
    """`labels.jsonl`, to which this and other processes append."""

    def __init__(self, file: TailedFile) -> None:
        self._file = file
        self._labels: dict[tuple[str, tuple[str, str, str]], Label] = {}

    def last(self) -> list[Label]:
        """The last label of each labeller for each pair, in the order in which pairs were first labelled. Lines that
        are no labels are left out."""
        if self._file.changed():
            if self._file.restarted():
                self._labels.clear()
            for line in self._file.lines():
                if (found := _label(line.data)) is not None:
                    self._labels[found.labeller, found.pair] = found
        return list(self._labels.values())

    def append(self, new: Label) -> None:
        """Append one line. Raises ResumableError if there is no room."""
        from aloe_jax import files  # not at the top, so that the page is served sooner

        files.repair_lines(self._file.path)
        files.append_line(self._file.path, files.json_line(asdict(new)))


def _label(data: bytes) -> Label | None:
    try:
        values = parse(data)
        found = Label(**values) if isinstance(values, dict) else None
    except (ValueError, TypeError):
        return None
    if found is None:
        return None
    names = (found.conversation, found.first, found.second, found.labeller)
    sound = all(isinstance(name, str) for name in names) and found.label in CHOICES
    return found if sound and (found.judge_label is None or found.judge_label in CHOICES) else None
