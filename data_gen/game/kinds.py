"""The kinds of candidate replies: who writes them, and what the writer is told.

A kind is a function of the turn's `Place` and an entry in `KINDS`, under the name of its count in
`config.conversations.mix`. Kinds beside `hinted` and `plain` have a fault by intention, one each, so that pairs show
what a user minds; whether the user does mind is up to the judge. Faults are made by what the teacher is told, so a
served model and the scripted oracle make them alike.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.roles import Dialogue, Revealed, Roles, Told
from data_gen.seeds import stable_seed
from data_gen.text import words
from data_gen.world.events import is_event

_LOOKED_AT = 16  # personas among which the one least like the user is taken
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Place:
    """Where candidates are wanted: the user, the dialogue, which ends with its message, the facts and traits that it is
    `known` to have shown, the roles, the personas to borrow from, and the turn's seed."""

    persona: Persona
    dialogue: Dialogue
    known: tuple[Revealed, ...]
    roles: Roles
    others: Sequence[Persona]
    seed: int

    def random(self, condition: str) -> random.Random:
        """The draws of a kind in this turn, other than those of its texts."""
        return random.Random(stable_seed(self.seed, condition, "told"))

    def teach(self, told: Told, guards_off: Sequence[str] = (), hint: str | None = None) -> Asked:
        """Candidates by the teacher; `hint` is what guards know of it, in place of all that it is told."""

        async def draw(n: int, seed: int) -> list[Answer]:
            return await self.roles.teacher.replies(told, self.dialogue, n, seed)

        return Asked(draw, told.hint if hint is None else hint, frozenset(guards_off))


@dataclass(frozen=True)
class Asked:
    """A way to get candidates: `draw(n, seed)`, the hint that guards look for, and the guards that do not apply."""

    draw: Callable[[int, int], Awaitable[list[Answer]]]
    hint: str | None = None
    guards_off: frozenset[str] = frozenset()


def hinted(place: Place) -> Asked:
    """By the teacher, told what has shown."""
    return place.teach(Told(place.persona, place.known))


def plain(place: Place) -> Asked:
    """By the responder, in the context that the trained model will have."""

    async def draw(n: int, seed: int) -> list[Answer]:
        return await place.roles.responder.replies(place.dialogue, None, n, seed)

    return Asked(draw)


def teacher_plain(place: Place) -> Asked:
    """By the teacher, without the hint: what is due to the teacher and not to the hint."""
    return place.teach(Told(place.persona, None))


def other_persona(place: Place) -> Asked | None:
    """By the teacher, told the facts that have shown and, of another persona, as many traits as have shown, at least
    one. None without a persona of other traits."""
    draws = place.random("other_persona")
    other = _least_alike(place.others, place.persona, "traits", draws)
    if other is None:
        return None
    facts = _shown(place, place.persona.facts)
    likes = [trait for trait in other.traits if not is_event(trait)]
    traits = draws.sample(likes, min(len(likes), max(1, len(place.known) - len(facts))))
    turn = (len(place.dialogue) + 1) // 2
    known = (*facts, *(Revealed(trait.id, turn) for trait in traits))
    return place.teach(Told(place.persona.model_copy(update={"traits": other.traits}), known))


def off_topic(place: Place) -> Asked | None:
    """By the teacher, told the traits that have shown, to the first message of a user with other facts. None without
    such a persona."""
    other = _least_alike(place.others, place.persona, "facts", place.random("off_topic"))
    if other is None:
        return None
    told = Told(place.persona.model_copy(update={"facts": other.facts}), _shown(place, place.persona.traits))
    opening = stable_seed("opening", other.id)  # of the persona alone: conversations share the call

    async def draw(n: int, seed: int) -> list[Answer]:
        said = await place.roles.user.message(other, (), opening)
        if not said.text.strip():
            return []
        return await place.roles.teacher.replies(told, [Message(role="user", content=said.text)], n, seed)

    return Asked(draw, told.hint)


def leak(place: Place) -> Asked | None:
    """By the teacher, told what has shown and asked to give away one more fact. None where all facts have shown."""
    shown = {each.id for each in place.known}
    hidden = [fact for fact in place.persona.facts if fact.id not in shown and not is_event(fact)]
    if not hidden:
        return None
    secret = place.random("leak").choice(hidden)
    return place.teach(Told(place.persona, place.known, secret), ("unrevealed",), hint="")


def repetition(place: Place) -> Asked | None:
    """An earlier reply of the path without its first or its last sentence, if it has several. None in the first
    turn."""
    earlier = [message.content for message in place.dialogue if message.role == "assistant"]
    if not earlier:
        return None

    async def draw(n: int, seed: int) -> list[Answer]:
        draws = random.Random(seed)
        return [Answer(_part(draws.choice(earlier), draws)) for _ in range(n)]

    return Asked(draw, guards_off=frozenset(("near_copy", "loop")))


KINDS: Mapping[str, Callable[[Place], Asked | None]] = {
    "hinted": hinted,
    "plain": plain,
    "teacher_plain": teacher_plain,
    "other_persona": other_persona,
    "repetition": repetition,
    "off_topic": off_topic,
    "leak": leak,
}


def _shown(place: Place, items: Sequence[Item]) -> tuple[Revealed, ...]:
    """Those of `items` that have shown."""
    ids = {item.id for item in items}
    return tuple(each for each in place.known if each.id in ids)


def _least_alike(others: Sequence[Persona], persona: Persona, part: str, draws: random.Random) -> Persona | None:
    """The persona that shares the fewest `part` (facts or traits) with `persona`, of some drawn at random; None if it
    shares all."""
    own = {item.text for item in getattr(persona, part)}

    def alike(other: Persona) -> int:
        return sum(item.text in own for item in getattr(other, part))

    found = min(draws.sample(others, min(len(others), _LOOKED_AT)), key=alike, default=None)
    return None if found is None or alike(found) == len(getattr(found, part)) else found


def _part(text: str, draws: random.Random) -> str:
    sentences = _SENTENCE.split(text.strip())
    parts = [" ".join(part) for part in (sentences[1:], sentences[:-1])]
    return draws.choice([part for part in parts if words(part)] or [text])  # an emoji may stand alone
