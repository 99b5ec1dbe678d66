"""The model-backed inducer: ticks the facts and traits that a message gives away, as ids in JSON, never as prose."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.serve.client.constraints import parsed
from aloe_jax.tree.schema import Persona
from data_gen.players.player import Player, asked, home, system
from data_gen.roles import Dialogue, Revealed

MAX_NEW = 3  # items that one message can give away


def schema(ids: Sequence[str]) -> dict[str, object]:
    """The JSON schema of the answer: a list of at most `MAX_NEW` of the ids."""
    return {
        "type": "object",
        "properties": {"shown": {"type": "array", "items": {"type": "string", "enum": list(ids)}, "maxItems": MAX_NEW}},
        "required": ["shown"],
        "additionalProperties": False,
    }


class ModelInducer(Player):
    """Implements `Inducer`. An answer that is not JSON of this schema ticks nothing."""

    async def beliefs(
        self, persona: Persona, dialogue: Dialogue, known: Sequence[Revealed] = ()
    ) -> tuple[Revealed, ...]:
        """`known` and what the last message adds."""
        seen = {each.id for each in known}
        hidden = [item for item in (*persona.facts, *persona.traits) if item.id not in seen]
        if not hidden:
            return tuple(known)
        before = dialogue[-2].content if len(dialogue) > 1 else ""
        question = self.prompt.render("ask", items=hidden, before=before, message=dialogue[-1].content)
        [answer] = await self.chat.chat(
            [system(self.prompt.render("system")), asked(question)],
            seed=0,
            affinity=home(persona, dialogue),
            token_ids=False,
            logprobs=False,
            schema=schema([item.id for item in hidden]),
            **self.how(),
        )
        value = parsed(answer.text)
        ticked = value.get("shown") if isinstance(value, dict) else None
        ids = [each for each in ticked if isinstance(each, str)][:MAX_NEW] if isinstance(ticked, list) else []
        turn = sum(message.role == "user" for message in dialogue)
        return (*known, *(Revealed(item.id, turn) for item in hidden if item.id in ids))
