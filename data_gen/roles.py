"""The roles of the conversation game, as interfaces: scripted and model-backed roles are interchangeable.

A dialogue is the list of messages on one path, first to last, without a system message. Every role is a pure function
of its arguments and its own settings, so a dialogue can fork at any reply. Source: paper, section 2.
CONTRIBUTING.md lists what a new role needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Item, Message, Persona

Dialogue = Sequence[Message]


@dataclass(frozen=True)
class Revealed:
    """The id of a fact or trait, and the user turn (from 1) that showed it first."""

    id: str
    turn: int


@dataclass(frozen=True)
class Verdict:
    """A judge's score of one reply. `value` is from 1 to 5 and counts only what the user has shown, or None if the
    judge gave no readable answer (unscored). `criteria` are the parts of the score, by name. `persona` is the score
    with all of the persona's traits counted, from 1 to 5; None of a judge that does not give it."""

    value: float | None
    criteria: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    persona: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A judge's verdict on two replies: the probability in [0, 1] that the user prefers the first one, once with that
    reply shown first and once with it shown second. Their mean has no position bias."""

    shown_first: float
    shown_second: float
    calls: tuple[str, ...] = ()

    @property
    def p(self) -> float:
        """The mean over both orders."""
        return (self.shown_first + self.shown_second) / 2

    @property
    def flipped(self) -> bool:
        """Whether the verdict changed with the order: the judge went by the position."""
        return (self.shown_first - 0.5) * (self.shown_second - 0.5) < 0


@dataclass(frozen=True)
class Said:
    """A user message; `truncated` if it was cut off, `thought` if thoughts were cut out of it. `calls` are the ids of
    the calls that made it."""

    text: str
    truncated: bool = False
    calls: tuple[str, ...] = ()
    thought: bool = False


class User(Protocol):
    """Speaks as the persona; shows a little more of it each turn and never states a preference."""

    async def message(self, persona: Persona, dialogue: Dialogue, seed: int = 0) -> Said:
        """The next user message; `dialogue` is empty or ends with an assistant message."""
        ...


class Inducer(Protocol):
    """Names what the user has shown so far; in doubt it names nothing."""

    async def beliefs(
        self, persona: Persona, dialogue: Dialogue, known: Sequence[Revealed] = ()
    ) -> tuple[Revealed, ...]:
        """Facts and traits shown in `dialogue`, which ends with a user message, in order of appearance; `known` are
        those shown before that message."""
        ...


class Responder(Protocol):
    """Answers the user: with a hint (text) as one that has it, without one from the dialogue alone. The learner."""

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Answer]:
        """`n` candidates for the next assistant message; `dialogue` ends with a user message."""
        ...


@dataclass(frozen=True)
class Told:
    """What a teacher is told of the user whom it answers.

    Attributes:
        persona: the user.
        known: the facts and traits of it that the reply is to fit; None: none, the teacher gets the dialogue alone.
        secret: a fact of it that the user has not shown and that the reply is to give away.
    """

    persona: Persona
    known: tuple[Revealed, ...] | None
    secret: Item | None = None

    @property
    def hint(self) -> str | None:
        """What is known as sentences; None for the dialogue alone."""
        return None if self.known is None else hint_text(self.persona, self.known)


class Teacher(Protocol):
    """Answers the user as one who was told about it: a stronger model, or the scripted world's oracle."""

    async def replies(self, told: Told, dialogue: Dialogue, n: int, seed: int) -> list[Answer]:
        """`n` candidates for the next assistant message; `dialogue` ends with a user message."""
        ...


class Judge(Protocol):
    """Scores replies for one persona and counts only what the dialogue has shown so far: `revealed` where it is given
    (a model has to be told), else what the judge itself finds in the dialogue or, if it cannot, the whole persona."""

    @property
    def name(self) -> str:
        """The name that its scores and preferences carry."""
        ...

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """The score of `reply` as an answer to `dialogue`, which ends with a user message."""
        ...

    async def prefer(
        self, persona: Persona, dialogue: Dialogue, first: str, second: str, revealed: Sequence[Revealed] | None = None
    ) -> Comparison | None:
        """Which of two replies the user prefers; None if the judge gave no readable answer."""
        ...


@dataclass(frozen=True)
class Roles:
    """Who plays each role. A role that the mix of candidates does not need may be None."""

    user: User
    inducer: Inducer
    responder: Responder
    judge: Judge
    teacher: Teacher


def hint_text(persona: Persona, beliefs: Sequence[Revealed]) -> str:
    """The hint of a hinted reply: the revealed facts and traits as sentences, in order of appearance."""
    texts = {item.id: item.text for item in (*persona.facts, *persona.traits)}
    return " ".join(texts[belief.id] for belief in beliefs if belief.id in texts)


def calls_of(answer: Answer) -> tuple[str, ...]:
    """The ids of the calls that an answer is from: one, or none for a scripted player's."""
    return (answer.call,) if answer.call else ()
