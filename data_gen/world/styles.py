"""Which style settings a persona holds, which of them a dialogue has shown, and which a question asks about.

A trait of a persona is an item whose id is a setting ("question.asks"). Ids with a turn are of users that change:
"question.none@6" holds from turn 6 on, in place of the persona's other setting of that axis. Ids that begin with
"event." are no traits but habits of the game (see `events`). A user that wishes for plain answers holds no flourish
(`style_table.FLOURISHES`) from then on.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Persona
from data_gen.text import normal
from data_gen.world.events import EVENT, neutral_from
from data_gen.world.facts import user_turns
from data_gen.world.style import Style
from data_gen.world.style_table import FLOURISHES, STYLES

BY_ID: Mapping[str, Style] = {style.id: style for style in STYLES}

# Settings of different axes that would make a strange or contradictory user, or that no reply can fit together.
CLASHES = frozenset(
    frozenset(pair)
    for pair in (
        ("register.formal", "energy.lively"),
        ("register.formal", "emoji.emoji"),
        ("register.formal", "address.mate"),
        ("register.formal", "laugh.laughs"),
        ("advice.listens", "order.steps"),
    )
)

# A question of a reply with one of these asks about the axis: the user answers by showing its setting next.
CUES: Mapping[str, tuple[str, ...]] = {
    "length": ("short", "shorter", "brief", "longer", "in detail", "length", "concise", "how much should"),
    "register": ("formal", "formally", "casual", "lower case", "tone"),
    "energy": ("lively", "calm", "calmer", "upbeat", "energy", "excited", "exclamation"),
    "emoji": ("emoji", "emojis", "smiley", "smileys"),
    "question": ("questions", "ask you", "asking you", "be asked"),
    "advice": ("advice", "suggestion", "suggestions", "suggest", "tips", "just listen", "vent"),
    "memory": ("remember", "bring up", "refer back"),
    "avoid": ("topics", "topic", "avoid", "off limits", "not talk about", "rather not"),
    "words": ("plain", "simple words", "long words", "big words", "jargon"),
    "opener": ("greeting", "hello", "to the point", "small talk", "get straight"),
    "warmth": ("warm", "warmth", "sympathy", "comfort", "kind words"),
    "order": ("step by step", "steps", "in order", "one by one"),
    "voice": ("my opinion", "my view", "what i think", "about myself", "my take"),
    "certainty": ("how sure", "certain", "careful", "cautious", "definite"),
    "address": ("call you", "address you", "nickname"),
    "closing": ("sign off", "goodbye", "end my", "close my"),
    "figures": ("numbers", "figures", "digits", "rate"),
    "aside": ("brackets", "aside", "asides", "side note"),
    "quote": ("quote", "quotes", "your own words"),
    "laugh": ("laugh", "joke", "jokes", "humour", "humor"),
    "image": ("comparison", "comparisons", "images"),
    "nod": ("agree", "on your side", "nod"),
    "company": ("together", "company", "as a team"),
    "reason": ("reasons", "reason", "why i", "explain", "explained"),
    "summary": ("sum up", "summary", "summed up", "in short", "recap"),
    "saying": ("saying", "sayings", "proverb", "proverbs", "wisdom"),
    "contrast": ("other side", "both sides", "downside", "upside"),
}
_QUESTION = re.compile(r"[^.!?…\n]*\?")


@functools.lru_cache(maxsize=16_384)
def axes_asked(reply: str) -> tuple[str, ...]:
    """The axes that the questions of a reply ask about (`CUES`), in the order of the questions, then of the table."""
    found: dict[str, None] = {}
    for question in _QUESTION.findall(reply):
        text = normal(question)
        found |= dict.fromkeys(axis for axis, cues in CUES.items() if any(f" {cue} " in text for cue in cues))
    return tuple(found)


@functools.lru_cache(maxsize=4_096)
def _traits(ids: tuple[str, ...], owner: str) -> tuple[tuple[Style, int], ...]:
    """Each style with the turn from which it holds."""
    found = []
    for id in ids:
        name, mark, start = id.partition("@")
        if name.startswith(EVENT):
            continue
        if name not in BY_ID or (mark and not start.isdecimal()):
            raise InputError(
                f"persona '{owner}': trait '{id}' is not a style of the scripted world; "
                "create personas for the scripted roles with the 'personas' stage"
            )
        found.append((BY_ID[name], int(start or 1)))
    return tuple(found)


def styles_of(persona: Persona, turn: int = 1) -> tuple[Style, ...]:
    """The styles that a stored persona holds in a user turn (from 1). InputError for an id that does not exist."""
    held = [
        (style, start)
        for style, start in _traits(tuple(item.id for item in persona.traits), persona.id)
        if start <= turn
    ]
    changed = {style.axis for style, start in held if start > 1}
    plain = neutral_from(persona)
    dropped = FLOURISHES if plain is not None and turn >= plain else frozenset()
    return tuple(style for style, start in held if (start > 1 or style.axis not in changed) and style.id not in dropped)


def change_of(persona: Persona) -> tuple[Style, int] | None:
    """The setting that the user takes up in the course of the dialogue, and the turn in which it does; None if it does
    not change."""
    return next(
        (
            (style, start)
            for style, start in _traits(tuple(item.id for item in persona.traits), persona.id)
            if start > 1
        ),
        None,
    )


def compatible(first: Style, second: Style) -> bool:
    """Whether one user can have both."""
    return first.axis != second.axis and frozenset((first.id, second.id)) not in CLASHES


@functools.lru_cache(maxsize=16_384)
def styles_in(message: str) -> frozenset[str]:
    """The ids of all styles that a user message shows, whoever wrote it."""
    return frozenset(style.id for style in STYLES if style.shows(message))


def shown_styles(persona: Persona, dialogue: Sequence[Message]) -> dict[str, int]:
    """Style id -> user turn (from 1) that showed it first, of the styles that the user holds at the end of `dialogue`.
    A setting that the user gave up does not count any more."""
    texts = user_turns(dialogue)
    change = change_of(persona)
    shown: dict[str, int] = {}
    for style in styles_of(persona, len(texts)):
        start = change[1] if change is not None and change[0] is style else 1
        for turn in range(start, len(texts) + 1):
            if style.id in styles_in(texts[turn - 1]):
                shown[style.id] = turn
                break
    return shown
