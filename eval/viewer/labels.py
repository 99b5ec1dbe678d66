"""What people say about pairs of replies: lines of `labels.jsonl`, beside what the judge said."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aloe_jax.errors import InputError
from data_gen.agreement import Choice
from eval.viewer.tail import GrowingFile, parse

CHOICES: tuple[Choice, ...] = ("first", "second", "tie")
NAME_CHARACTERS = 60


@dataclass(frozen=True)
class Label:
    """One labeller's word on two replies to the same message, a line of `labels.jsonl`.

    `first` and `second` are in the order in which they were shown. `judge_label` is None where the judge compared
    nothing, and a tie where it saw both and preferred none; `judge_margin` (2p - 1, never negative) is that of its
    preference. `blind` says that the labeller did not see the judge's figures.
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
        """Names the pair, whichever reply stood first."""
        return (self.conversation, min(self.first, self.second), max(self.first, self.second))


@dataclass(frozen=True)
class LabelRequest:
    """What the page sends."""

    conversation: str
    first: str
    second: str
    label: Choice
    labeller: str
    blind: bool = False

    @classmethod
    def of(cls, body: Any) -> LabelRequest:
        """Raises InputError naming the first field that is not as it must be."""
        if not isinstance(body, dict):
            raise InputError("the body must be a JSON object")
        known = {"conversation", "first", "second", "label", "labeller", "blind"}
        if unknown := sorted(set(body) - known):
            raise InputError(f"field '{unknown[0]}' is not known; expected {', '.join(sorted(known))}")
        for name in ("conversation", "first", "second", "labeller"):
            if not isinstance(body.get(name), str) or not body[name].strip():
                raise InputError(f"field '{name}' must be a text that is not empty")
        if body.get("label") not in CHOICES:
            raise InputError(f"field 'label' is {body.get('label')!r}; expected first, second or tie")
        if not isinstance(body.get("blind", False), bool):
            raise InputError("field 'blind' must be true or false")
        labeller = body["labeller"].strip()
        if len(labeller) > NAME_CHARACTERS or not labeller.isprintable():
            raise InputError(f"field 'labeller' must be a name of at most {NAME_CHARACTERS} printable characters")
        return cls(**{**body, "labeller": labeller})


def label(request: LabelRequest, tree: Mapping[str, Any]) -> Label:
    """The line for a request about `tree`. Raises InputError if the two are not different replies to one message."""
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


def judgement(
    tree: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[str | None, Choice | None, float | None]:
    """Who judged the two, which one it preferred and by what margin.

    The file keeps preferences alone, so a pair of scored replies without one was a tie for the judge.
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


def _scorers(node: Mapping[str, Any]) -> set[str]:
    return {score["judge"] for score in node.get("scores", ()) if score["value"] is not None}


class LabelFile:
    """`labels.jsonl`, which this and other processes append to."""

    def __init__(self, file: GrowingFile) -> None:
        self._file = file
        self._labels: dict[tuple[str, tuple[str, str, str]], Label] = {}

    def last(self) -> list[Label]:
        """The last label that each labeller gave each pair, in the order in which pairs were first labelled. Lines that
        are not labels are left out."""
        if self._file.changed():
            if self._file.restarted():
                self._labels.clear()
            for line in self._file.lines():
                if (found := _label(line.data)) is not None:
                    self._labels[found.labeller, found.pair] = found
        return list(self._labels.values())

    def append(self, new: Label) -> None:
        """Write one line. Raises ResumableError if there is no room."""
        from aloe_jax import files  # here, because the page comes up sooner without it

        files.repair_lines(self._file.path)
        files.append_line(self._file.path, json.dumps(asdict(new), ensure_ascii=False))


def _label(data: bytes) -> Label | None:
    try:
        found = Label(**parse(data))
    except (ValueError, TypeError):
        return None
    names = (found.conversation, found.first, found.second, found.labeller)
    sound = all(isinstance(name, str) for name in names) and found.label in CHOICES
    return found if sound and (found.judge_label is None or found.judge_label in CHOICES) else None
