"""A policy without a model whose replies differ from draw to draw, as a model's do: what credit can be tried on.

A reply is the oracle's at a random skill, or has a fault. As models do, the policy goes on as it began: with
probability `persistence` a reply is as good as the last one of the dialogue was, so a reply has consequences.
"""

from __future__ import annotations

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Persona
from data_gen.roles import Dialogue
from data_gen.seeds import draw, number
from data_gen.world.judge import assess
from data_gen.world.oracle import oracle_reply
from data_gen.world.responders import STRATEGIES

FAULTY = 0.25  # share of replies with a fault, among those that do not follow the last one
FAULTS = ("relevant", "varied generic", "edited echo", "guesser", "repeat", "keywords")


class StochasticResponder:
    """Implements `data_gen.roles.Responder` for one persona; a hint has no effect."""

    def __init__(self, persona: Persona, persistence: float = 0.0) -> None:
        self.persona, self.persistence = persona, persistence

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Answer]:
        """`n` candidates, drawn with the seeds `seed`, `seed + 1`, ..."""
        return [Answer(stochastic_reply(self.persona, dialogue, seed + row, self.persistence)) for row in range(n)]


def stochastic_reply(persona: Persona, dialogue: Dialogue, seed: int, persistence: float = 0.0) -> str:
    """A reply to `dialogue`, which ends with a user message; determined by the arguments."""
    place = len(dialogue)
    fault, skill = _chance("fault", seed, place) < FAULTY, _chance("skill", seed, place)
    if place > 1 and _chance("follows", seed, place) < persistence:
        last = assess(persona, dialogue[:-2], dialogue[-2].content)
        fault, skill = last.fault is not None, last.style
    if fault:
        return STRATEGIES[draw(FAULTS, "kind of fault", seed, place)](persona, dialogue, seed)
    return oracle_reply(persona, dialogue, seed, skill)


def _chance(*key: object) -> float:
    """A number in [0, 1) determined by `key`."""
    return number(*key) / 2**64
