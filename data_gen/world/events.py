"""Users that do more than show what they like: some go off topic in one turn, some correct what a reply got wrong.

They are items of a persona, so that it is stored as ever: "event.wanders@4" among the facts speaks of something else in
turn 4, "event.corrects" among the traits says that a reply was wrong and comes back to the same fact. (A user that
changes a preference has a trait with a turn, see `styles`.) They are no facts or preferences and count in no score.
"""

from __future__ import annotations

from aloe_jax.tree.schema import Item, Persona

EVENT = "event."
CORRECTS = Item(id="event.corrects", text="When a reply gets something wrong, the user says so and comes back to it.")
_WANDERS = "event.wanders@"


def is_event(item: Item) -> bool:
    """Whether an item of a persona is what it does, and neither a fact nor a preference."""
    return item.id.startswith(EVENT)


def wanders(turn: int) -> Item:
    """The item of a user that is off topic in `turn` (from 1)."""
    return Item(id=f"{_WANDERS}{turn}", text=f"In turn {turn} the user is taken up with something else.")


def wanders_in(persona: Persona) -> int | None:
    """The turn in which the user is off topic; None if it never is."""
    found = (item.id.removeprefix(_WANDERS) for item in persona.facts if item.id.startswith(_WANDERS))
    return next((int(turn) for turn in found if turn.isdecimal()), None)


def corrects(persona: Persona) -> bool:
    """Whether the user corrects what a reply got wrong."""
    return any(item.id == CORRECTS.id for item in persona.traits)
