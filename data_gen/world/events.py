"""Users that do more than show what they like: some go off topic in one turn, some correct what a reply got wrong, and
with some there are turns in which a reply is better not about them.

They are items of a persona, so that it is stored as ever: "event.wanders@4" among the facts speaks of something else in
turn 4, "event.asks@2" asks a plain question of fact in turn 2, "event.other@3" asks for somebody else in turn 3,
"event.neutral@5" wishes for plain answers from turn 5 on; "event.corrects" among the traits says that a reply was wrong
and comes back to the same fact. (A user that changes a preference has a trait with a turn, see `styles`.) They are no
facts or preferences and count in no score. `occasions` says what is right in such a turn.
"""

from __future__ import annotations

from typing import Literal

from aloe_jax.tree.schema import Item, Persona

EVENT = "event."
CORRECTS = Item(id="event.corrects", text="When a reply gets something wrong, the user says so and comes back to it.")
_WANDERS = "event.wanders@"
Kind = Literal["asks", "other", "neutral"]
KINDS: tuple[Kind, ...] = ("asks", "other", "neutral")
_TEXTS: dict[Kind, str] = {
    "asks": "In turn {turn} the user asks a question of fact and wants the answer alone.",
    "other": "In turn {turn} the user asks for somebody else, and says what that person needs.",
    "neutral": "From turn {turn} on the user wishes for plain answers without any frills.",
}


def is_event(item: Item) -> bool:
    """Whether an item of a persona is what it does, and neither a fact nor a preference."""
    return item.id.startswith(EVENT)


def wanders(turn: int) -> Item:
    """The item of a user that is off topic in `turn` (from 1)."""
    return Item(id=f"{_WANDERS}{turn}", text=f"In turn {turn} the user is taken up with something else.")


def wanders_in(persona: Persona) -> int | None:
    """The turn in which the user is off topic; None if it never is."""
    return next(iter(_turns(persona, _WANDERS)), None)


def occasion_item(kind: Kind, turn: int) -> Item:
    """The item of a user with whom `turn` (from 1) is one of a `kind` in which a reply is not to be about the user."""
    return Item(id=f"{EVENT}{kind}@{turn}", text=_TEXTS[kind].format(turn=turn))


def kind_in(persona: Persona, turn: int) -> Kind | None:
    """The kind of a turn in which a reply is not to be about the user; None for an ordinary one."""
    if turn in _turns(persona, f"{EVENT}asks@"):
        return "asks"
    if turn in _turns(persona, f"{EVENT}other@"):
        return "other"
    start = neutral_from(persona)
    return "neutral" if start is not None and turn >= start else None


def neutral_from(persona: Persona) -> int | None:
    """The turn from which the user wishes for plain answers; None if it never does."""
    return min(_turns(persona, f"{EVENT}neutral@"), default=None)


def _turns(persona: Persona, mark: str) -> list[int]:
    """The turns of the events whose id begins with `mark`."""
    found = (item.id.removeprefix(mark) for item in persona.facts if item.id.startswith(mark))
    return [int(turn) for turn in found if turn.isdecimal()]


def corrects(persona: Persona) -> bool:
    """Whether the user corrects what a reply got wrong."""
    return any(item.id == CORRECTS.id for item in persona.traits)
