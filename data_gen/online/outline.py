"""The trees of a round before it has run: their shape and which replies are learned from, without texts.

They are grown and credited by the code of the rounds, with roles that say nothing, so `aloe plan` sees every change of
the settings as a round would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Conversation, Persona
from data_gen.online.methods import METHODS, check_method
from data_gen.online.rewards import rewarded
from data_gen.online.rollout import Seat, roll_out, tree_name
from data_gen.online.round_settings import OnlineSettings
from data_gen.online.spread import Spread
from data_gen.roles import Comparison, Dialogue, Revealed, Roles, Said, Verdict
from data_gen.world.teacher import ScriptedTeacher


class _Nobody:
    """User, inducer, responder and judge. A reply is its number among its siblings, and scores fall with it: siblings
    differ in value, and their futures do not, so that no group is flat."""

    name = "nobody"

    async def message(self, persona: Persona, dialogue: Dialogue, seed: int = 0) -> Said:
        return Said("-")

    async def beliefs(
        self, persona: Persona, dialogue: Dialogue, known: Sequence[Revealed] = ()
    ) -> tuple[Revealed, ...]:
        return ()

    async def replies(self, dialogue: Dialogue, hint: str | None, n: int, seed: int) -> list[Answer]:
        return [Answer(str(number)) for number in range(1, n + 1)]

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        return Verdict(1 + 4 / int(reply))

    async def prefer(
        self, persona: Persona, dialogue: Dialogue, first: str, second: str, revealed: Sequence[Revealed] | None = None
    ) -> Comparison | None:
        return None


def outlines(settings: OnlineSettings, seed: int = 0) -> list[Conversation]:
    """The trees of the first round, whose turns with siblings are drawn by `seed`, with the advantages or preferences
    that replies are learned from. InputError for a method that there is not, or that the settings do not suit."""
    check_method(settings)
    nobody, method = _Nobody(), METHODS[settings.method]
    shape, each = method.shaped(settings.rollout), method.trees_per_persona(settings)
    roles = Roles(nobody, nobody, nobody, nobody, ScriptedTeacher())
    names = map(str, range(settings.trees // each))
    personas = [Persona(id=name, profile=name, personality="") for name in names]
    seats = [Seat(tree_name(1, persona, copy), persona, roles) for persona in personas for copy in range(1, each + 1)]
    trees = [rewarded(tree, shape) for tree in asyncio.run(roll_out(seats, shape, seed))]
    return method.credited(trees, shape, Spread())[0]
