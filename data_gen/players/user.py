"""The model-backed user: prompted with the dialogue, roles swapped, after an opening and, if it plays a role, its whole
persona. A model that was trained on the user's turns gets no instruction (`aloe_jax/formats/swapped.py`)."""

from __future__ import annotations

from aloe_jax.tree.schema import Message, Persona
from data_gen.players.player import Player, asked, home, system
from data_gen.roles import Dialogue, Said, calls_of


class ModelUser(Player):
    """Implements `User`."""

    async def message(self, persona: Persona, dialogue: Dialogue, seed: int = 0) -> Said:
        """The next message. For the model, the user's messages are its own and the replies come from outside. Without
        an instruction there is no system message."""
        persona_text = self.prompt.render("system", facts=persona.facts, traits=persona.traits)
        messages = [system(persona_text)] if persona_text else []
        messages.append(asked(self.prompt.render("opening")))
        messages += [
            Message(role="assistant" if message.role == "user" else "user", content=message.content)
            for message in dialogue
        ]
        [answer] = await self.chat.chat(
            messages, seed=seed, affinity=home(persona, dialogue), token_ids=False, logprobs=False, **self.how()
        )
        return Said(answer.text.strip(), answer.truncated, calls_of(answer), answer.thought is not None)
