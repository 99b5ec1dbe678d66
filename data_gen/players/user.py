"""The model-backed user: prompted with its whole persona and with the dialogue, roles swapped."""

from __future__ import annotations

from aloe_jax.tree.schema import Message, Persona
from data_gen.players.player import Player, asked, home, system
from data_gen.roles import Dialogue, Said, calls_of


class ModelUser(Player):
    """Implements `User`."""

    async def message(self, persona: Persona, dialogue: Dialogue, seed: int = 0) -> Said:
        """The next message. For the model, the user's messages are its own and the replies come from outside."""
        persona_text = self.prompt.render("system", facts=persona.facts, traits=persona.traits)
        messages = [system(persona_text), asked(self.prompt.render("opening"))]
        messages += [
            Message(role="assistant" if message.role == "user" else "user", content=message.content)
            for message in dialogue
        ]
        [answer] = await self.chat.chat(
            messages, seed=seed, affinity=home(persona, dialogue), token_ids=False, logprobs=False, **self.how()
        )
        return Said(answer.text.strip(), answer.truncated, calls_of(answer), answer.thought is not None)
