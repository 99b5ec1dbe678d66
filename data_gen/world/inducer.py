"""The scripted inducer: finds what a user has shown so far in the user's own messages."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Dialogue, Revealed
from data_gen.world.facts import shown_facts
from data_gen.world.styles import shown_styles


def shown(persona: Persona, dialogue: Sequence[Message]) -> tuple[Revealed, ...]:
    """Facts and traits shown in `dialogue`, each with the user turn that showed it first; sorted by turn, then facts
    before traits, then in the persona's order. A longer dialogue only adds to them.

    A fact is shown when a user message names it, a trait when a user message exhibits it (`Style.shows`).
    """
    turns = shown_facts(persona, dialogue) | shown_styles(persona, dialogue)
    order = [item.id for item in (*persona.facts, *persona.traits) if item.id in turns]
    return tuple(Revealed(id, turns[id]) for id in sorted(order, key=lambda id: turns[id]))


class ScriptedInducer:
    """Implements `data_gen.roles.Inducer` without a model; exact by construction."""

    async def beliefs(
        self, persona: Persona, dialogue: Dialogue, known: Sequence[Revealed] = ()
    ) -> tuple[Revealed, ...]:
        """See `shown`."""
        return shown(persona, dialogue)
