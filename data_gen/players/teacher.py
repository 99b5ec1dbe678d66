"""The model-backed teacher: answers as one who was told what the user has shown, or asked to make a certain fault."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.serve.client.answers import Answer
from data_gen.players.player import Player
from data_gen.players.prompts import Prompt
from data_gen.players.responder import sampled
from data_gen.roles import Dialogue, Told


@dataclass(frozen=True)
class ModelTeacher(Player):
    """Implements `Teacher`. `hints` has the wording of hints if it is another role's: the responder's, where the
    responder is the teacher too."""

    hints: Prompt | None = None

    async def replies(self, told: Told, dialogue: Dialogue, n: int, seed: int) -> list[Answer]:
        """`n` candidates; where nothing is told the server gets the dialogue alone."""
        return await sampled(self, self._instruction(told), dialogue, n, seed)

    def _instruction(self, told: Told) -> str | None:
        if told.secret is not None:
            return self.prompt.render("leak", hint=told.hint, secret=told.secret.text)
        return None if told.hint is None else (self.hints or self.prompt).render("system", hint=told.hint)
