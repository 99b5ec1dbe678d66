"""The scripted teacher: the oracle, told what it may know of the user, at a set skill."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Dialogue, Told
from data_gen.seeds import draw, number
from data_gen.world.facts import by_id, shown_facts
from data_gen.world.oracle import oracle_reply
from data_gen.world.responders import STRATEGIES
from data_gen.world.styles import shown_styles
from data_gen.world.user import write_message

WEAKER = "relevant"  # the strategy of a reply without skill: on topic, whatever the style
SECRETS = (
    "And there is your {topic} besides.",
    "That goes well with your {topic}, by the way.",
    "Then again, your {topic} is never far off.",
    "All this on top of your {topic}.",
)
_MADE_UP = 8  # turns in which traits that the user has not shown are shown
_SPAN = float(2**64)  # of `seeds.number`


class ScriptedTeacher:
    """Implements `data_gen.roles.Teacher` without a model. With probability 1 - `skill` a reply is `WEAKER`."""

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
    lacking = number(seed, dialogue[-1].content, "skill") / _SPAN >= skill
    reply = STRATEGIES[WEAKER](persona, talk, seed) if lacking else oracle_reply(persona, talk, seed)
    return reply if told.secret is None else f"{reply} {_secret(told.secret.id, reply, seed)}"


def _as_known(told: Told, dialogue: Sequence[Message]) -> tuple[Persona, Sequence[Message]]:
    """The persona with the known traits alone, and a dialogue in which it has shown them all: where it has not, because
    they are those of another persona, turns are made up in front in which it does."""
    held = {each.id for each in told.known or ()}
    traits = tuple(trait for trait in told.persona.traits if trait.id in held)
    persona = told.persona.model_copy(update={"traits": traits})
    if {trait.id for trait in traits} <= set(shown_styles(persona, dialogue)):
        return persona, dialogue
    shown = shown_facts(persona, dialogue)
    facts = tuple(fact for fact in persona.facts if fact.id in shown) or persona.facts
    speaker = persona.model_copy(update={"facts": facts})
    talk: list[Message] = []
    for _ in range(_MADE_UP):
        talk.append(Message(role="user", content=write_message(speaker, talk, 0)))
        talk.append(Message(role="assistant", content=oracle_reply(speaker, talk, 0)))
        if len(shown_styles(speaker, talk)) == len(traits):
            break
    return persona, [*talk, *dialogue]


def _secret(fact: str, reply: str, seed: int) -> str:
    """A sentence that gives a fact away, in small letters where the reply has no others."""
    sentence = draw(SECRETS, seed, fact).format(topic=by_id()[fact].topic)
    return sentence.lower() if reply == reply.lower() else sentence
