"""The scripted inducer: finds what a user has shown so far in the user's own messages."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Dialogue, Revealed
from data_gen.world.facts import facts_of, shown_facts, user_turns
from data_gen.world.styles import change_of, shown_styles, styles_of


def shown(persona: Persona, dialogue: Sequence[Message]) -> tuple[Revealed, ...]:
    """Facts and traits shown in `dialogue`, each with the user turn that showed it first; sorted by turn, then facts
    before traits, then in the persona's order. A longer dialogue only adds to them, except that a trait which the user
    gives up is taken out when its successor shows.

    A fact is shown when a user message names it, a trait when a user message exhibits it (`Style.shows`).
    """
    facts, styles = shown_facts(persona, dialogue), shown_styles(persona, dialogue)
    change = change_of(persona)
    changed = change is not None and change[1] <= len(user_turns(dialogue))
    found = [Revealed(item.id, facts[item.id]) for item in persona.facts if item.id in facts]
    for item in persona.traits:
        style, mark, _ = item.id.partition("@")
        if style in styles and (changed or not mark):
            found.append(Revealed(item.id, styles[style]))
    return tuple(sorted(found, key=lambda belief: belief.turn))


def of_this_world(persona: Persona) -> bool:
    """Whether the scripted world knows all of a persona's facts and traits."""
    try:
        return bool(facts_of(persona) or styles_of(persona))
    except InputError:
        return False


class ScriptedInducer:
    """Implements `data_gen.roles.Inducer` without a model; exact by construction."""

    async def beliefs(
        self, persona: Persona, dialogue: Dialogue, known: Sequence[Revealed] = ()
    ) -> tuple[Revealed, ...]:
        """See `shown`."""
        return shown(persona, dialogue)
