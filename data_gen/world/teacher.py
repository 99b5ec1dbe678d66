"""The scripted teacher: the oracle, told what it may know of the user, at a set skill."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Dialogue, Told
from data_gen.seeds import draw
from data_gen.world.facts import Fact, facts_of, shown_facts
from data_gen.world.inducer import shown
from data_gen.world.oracle import oracle_reply
from data_gen.world.user import write_message

SECRETS = (
    "And there is your {topic} besides.",
    "That goes well with your {topic}, by the way.",
    "Then again, your {topic} is never far off.",
    "All this on top of your {topic}.",
)
_MADE_UP = 8  # turns at most that are put in front of a first message


class ScriptedTeacher:
    """Implements `data_gen.roles.Teacher` without a model. It meets each trait with probability `skill`."""

    def __init__(self, skill: float = 1.0) -> None:
        self.skill = skill

    async def replies(self, told: Told, dialogue: Dialogue, n: int, seed: int) -> list[Answer]:
        """`n` candidates, drawn with the seeds `seed`, `seed + 1`, ..."""
        return [Answer(taught_reply(told, dialogue, seed + row, self.skill)) for row in range(n)]


def taught_reply(told: Told, dialogue: Sequence[Message], seed: int, skill: float = 1.0) -> str:
    """The oracle's reply to `dialogue`, which ends with a user message, as far as the teacher is told about the user:
    it fits the traits that are known, none if nothing is. It names facts of the user's own messages only, and the
    secret if there is one."""
    persona, talk = _as_known(told, dialogue)
    reply = oracle_reply(persona, talk, seed, skill)
    secrets = [fact for fact in facts_of(told.persona) if told.secret and fact.id == told.secret.id]
    return " ".join([reply, *(_secret(fact, reply, seed) for fact in secrets)])


def _as_known(told: Told, dialogue: Sequence[Message]) -> tuple[Persona, Sequence[Message]]:
    """The persona with the known traits alone, and a dialogue in which it has shown them. Where it has not, as they are
    those of another persona, a user with these traits speaks in the turns before the last message; in a first turn, in
    turns put in front of it."""
    held = {each.id for each in told.known or ()} & {trait.id for trait in told.persona.traits}
    if held == _shown_traits(told.persona, dialogue):
        return told.persona, dialogue
    persona = told.persona.model_copy(update={"traits": tuple(each for each in told.persona.traits if each.id in held)})
    if held == _shown_traits(persona, dialogue):
        return persona, dialogue
    named = shown_facts(persona, dialogue)
    facts = tuple(fact for fact in persona.facts if fact.id in named) or persona.facts
    speaker = persona.model_copy(update={"facts": facts})
    earlier = len(dialogue) // 2
    talk: list[Message] = []
    for turn in range(1, 1 + (earlier or _MADE_UP)):
        talk.append(Message(role="user", content=write_message(speaker, talk, 0)))
        talk.append(Message(role="assistant", content=oracle_reply(speaker, talk, 0)))
        if turn >= earlier and held == _shown_traits(speaker, talk):
            break
    return persona if earlier else speaker, [*talk, dialogue[-1]]


def _shown_traits(persona: Persona, dialogue: Sequence[Message]) -> set[str]:
    traits = {trait.id for trait in persona.traits}
    return {each.id for each in shown(persona, dialogue)} & traits


def _secret(fact: Fact, reply: str, seed: int) -> str:
    """A sentence that gives a fact away, in small letters where the reply has no others."""
    sentence = draw(SECRETS, seed, fact.id).format(topic=fact.topic)
    return sentence.lower() if reply == reply.lower() else sentence
