"""What the model says in `aloe chat` that it has learned about the user, and what the user strikes out of it.

The model is asked beside the conversation: question and answer enter neither the dialogue nor its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.catalogue import Catalogue
from aloe_jax.serve.chat.memory import MemoryFile, Remembered, preface
from aloe_jax.serve.chat.speaker import Speaker
from aloe_jax.serve.chat.talk import Talk
from aloe_jax.tree.probe import QUESTION, read_cut, schema
from aloe_jax.tree.schema import Message

SHOWN = 60  # characters of a user's words in the list
KEPT = 200  # and in the memory


@dataclass(frozen=True)
class Learned:
    """A line of the list. `turn` is the user turn that is the evidence; None: it is from the memory, and the model does
    not name it."""

    item: Remembered
    turn: int | None
    struck: bool = False

    def __str__(self) -> str:
        place = "earlier chat" if self.turn is None else f"turn {self.turn}"
        said = self.item.said if len(self.item.said) <= SHOWN else f"{self.item.said[: SHOWN - 1]}…"
        remarks = (place, said, "struck out" if self.struck else "")
        return f"{self.item.sentence}  [{', '.join(filter(None, remarks))}]"


class Beliefs:
    """The list as it was shown last, of one conversation, and the memory of all."""

    def __init__(self, speaker: Speaker, catalogue: Catalogue | None = None, memory: MemoryFile | None = None) -> None:
        self._speaker, self._catalogue, self._memory = speaker, catalogue, memory
        self._shown: list[Learned] = []
        self._struck: dict[str, int] = {}  # by item the turns that there were when it was struck out
        self._asked: str | None = None  # the reply under which the model was asked last

    def begin(self, system: str | None) -> Talk:
        """A new conversation, which begins with what is remembered."""
        self._shown, self._struck, self._asked = [], {}, None
        return Talk(system, preface(self._memory.known) if self._memory else "")

    def ask(self, talk: Talk) -> list[Learned]:
        """What the model has learned in `talk`, and what else is remembered; the new of it is remembered from now on.
        Raises as `Speaker.constrained` does, and AloeError for an answer that cannot be read."""
        claimed: list[Learned] = []
        if talk.path and talk.path[-1].role == "assistant":
            claimed = self._claimed(talk)
            self._asked = talk.path[-1].id
            if self._memory:
                self._memory.update([each.item for each in claimed if not each.struck], ())
        named = {each.item.item for each in claimed}
        others = [each for each in (self._memory.known if self._memory else ()) if each.item not in named]
        self._shown = [*claimed, *(Learned(each, None) for each in others)]
        return self._shown

    def due(self, talk: Talk) -> bool:
        """Whether the memory lacks what was learned at the end of `talk`."""
        return bool(
            self._memory and talk.path and talk.path[-1].role == "assistant" and talk.path[-1].id != self._asked
        )

    def strike(self, number: str, talk: Talk) -> str:
        """Strike out a line of the list (from 1) and return what to say to the model about it. InputError if there is
        no such line."""
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= len(self._shown)):
            raise InputError(f"/forget {number}: the list has {len(self._shown)} lines; /belief shows it")
        found = self._shown[int(number) - 1]
        if found.struck:
            raise InputError(f"/forget {number}: it is struck out already")
        self._shown[int(number) - 1] = Learned(found.item, found.turn, struck=True)
        self._struck[found.item.item] = len(talk.turns) + 1
        if self._memory:
            self._memory.update((), {found.item.item})
            if not talk.turns:
                talk.preface = preface(self._memory.known)
        return correction(found.item.sentence)

    def _claimed(self, talk: Talk) -> list[Learned]:
        turns = [node.text for node in talk.turns]
        items = None if self._catalogue is None else tuple(self._catalogue)
        asked = [*talk.messages, Message(role="user", content=QUESTION)]
        claims = read_cut(self._speaker.constrained(asked, schema(items, len(turns))))
        if claims is None:
            raise AloeError(f"{self._speaker.name} gave no answer of the form that was asked for; ask it again later")
        texts: Mapping[str, str] = self._catalogue or {}
        found = []
        for claim in claims:
            said = " ".join(turns[claim.turn - 1].split())[:KEPT] if claim.turn <= len(turns) else ""
            item = Remembered(item=claim.item, text=texts.get(claim.item, ""), said=said)
            found.append(Learned(item, claim.turn, struck=claim.turn <= self._struck.get(claim.item, 0)))
        return found


def correction(sentence: str) -> str:
    """What a user says who strikes something out."""
    return f'You noted about me: "{sentence}" That is wrong. Please do not go by it any more.'
