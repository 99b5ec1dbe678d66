"""The scripted user: writes as its persona does, one or two facts per turn, and reacts to the reply it got.

A message depends only on (persona, dialogue, seed). The dialogue has everything that the user needs of the past, so it
may fork at any reply. Siblings of one turn get the same fact and different reactions.

Order in which things show: habits (see `styles`) in every message; of the other traits one new one per turn, so that
all four have shown by turn 4 (`memory.recalls` never in the first turn); one or two facts per turn, and after the last
one the user comes back to an earlier fact in other words. Number of sentences: at most three if it likes brief replies,
six or more if it likes fuller ones, else four or five.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Dialogue, Said
from data_gen.seeds import draw, number
from data_gen.text import expand_contractions, normal
from data_gen.world.facts import Fact, facts_of, shown_facts, user_turns
from data_gen.world.judge import Assessment, assess
from data_gen.world.remarks import EMOJI, FAULTS, LEAD_INS, SMALL_TALK, TEMPERS, Temper
from data_gen.world.styles import Style, shown_styles, styles_of

PLEASED, COOL = 4.0, 2.75  # score from which a reply pleases the user, and below which it cools the user
_LOWERED = frozenset(("the", "my", "a", "an", "we", "he", "they", "this", "that", "there", "our"))

# Tempers that do not fit what a trait makes the user write.
_UNFIT = {
    "warmth.warm": ("impatient", "blunt", "sarcastic", "dry"),
    "energy.lively": ("dry", "blunt"),
    "emoji.emoji": ("dry", "blunt"),
    "energy.calm": ("anxious", "impatient"),
    "certainty.firm": ("anxious",),
    "certainty.hedged": ("blunt", "impatient"),
    "register.formal": ("impatient", "cheerful"),
    "register.lower": ("dry",),
    "length.roomy": ("impatient",),
}


def temper(persona: Persona) -> Temper:
    """The user's mood, determined by its traits: cheerful, impatient, blunt, anxious, sarcastic or dry."""
    ids = [style.id for style in styles_of(persona)]
    unfit = {name for id in ids for name in _UNFIT.get(id, ())}
    fitting = [temper for temper in TEMPERS if temper.name not in unfit]
    return draw(fitting or TEMPERS, "temper", *sorted(ids))


@dataclass(frozen=True)
class _Turn:
    """What one message is made from; `key` determines every draw of this turn."""

    persona: Persona
    dialogue: Sequence[Message]
    key: tuple[object, ...]

    def pick(self, options: Sequence[str], purpose: str) -> str:
        """One of `options`, if possible one that the user has not written yet."""
        past = normal(expand_contractions(" ".join(user_turns(self.dialogue))))
        fresh = [text for text in options if normal(expand_contractions(text.split("{")[0])) not in past]
        return draw(fresh or options, *self.key, purpose)


def write_message(persona: Persona, dialogue: Sequence[Message], seed: int) -> str:
    """The user's next message. InputError unless `dialogue` is empty or ends with a reply."""
    if dialogue and dialogue[-1].role != "assistant":
        raise InputError("dialogue must be empty or end with an assistant message for the user to go on")
    ids = [item.id for item in (*persona.facts, *persona.traits)]
    turn = _Turn(persona, dialogue, (seed, *ids, len(dialogue)))
    held = {style.id for style in styles_of(persona)}
    facts = _facts(turn, held)
    told = [_form(turn, fact) for fact in facts]
    if "length.brief" not in held:
        told[0] = _lead_in(turn, told[0])
    opening = _opening(turn, held)
    phrase = _phrase(turn, facts)
    wanted = 1 if "length.brief" in held else 6 if "length.roomy" in held else 4
    room = wanted - len(opening) - len(told) - len(phrase)
    middle = _small_talk(turn, max(0, room))
    return _dress(turn, [*opening, told[0], *middle, *told[1:], *phrase], held)


def _facts(turn: _Turn, held: set[str]) -> list[Fact]:
    """The one or two facts of this turn: new ones while there are any, then told ones. A user who writes at length
    pairs a new fact with a told one after the first turn."""
    shown = shown_facts(turn.persona, turn.dialogue)
    facts = sorted(facts_of(turn.persona), key=lambda fact: number(*turn.key[:-1], "order", fact.id))
    new = [fact for fact in facts if fact.id not in shown]
    old = sorted((fact for fact in facts if fact.id in shown), key=lambda fact: _told(turn, fact))
    if "length.roomy" in held:
        count = 2
    else:
        count = 2 if "length.brief" not in held and number(*turn.key, "two facts") % 5 == 0 else 1
    fresh = 1 if "length.roomy" in held and old else count
    chosen = new[:fresh]
    return chosen + old[: count - len(chosen)]


def _told(turn: _Turn, fact: Fact) -> tuple[int, int]:
    """Sort key that puts facts with untold forms first, and among them the one told longest ago."""
    past = [normal(expand_contractions(text)) for text in user_turns(turn.dialogue)]
    forms = [normal(expand_contractions(form)) for form in fact.forms]
    turns = [row for row, text in enumerate(past) if any(form.strip() in text for form in forms)]
    return len(turns), max(turns, default=0)


def _form(turn: _Turn, fact: Fact) -> str:
    return turn.pick(fact.forms, f"form {fact.id}")


def _lead_in(turn: _Turn, form: str) -> str:
    """The form, which half of the messages introduce with a lead-in, if its first word allows it."""
    head = form.split()[0].split("'")[0].lower()
    if (head not in _LOWERED and head != "i") or number(*turn.key, "lead in") % 2:
        return form
    lead = turn.pick(LEAD_INS, "lead")
    return f"{lead} {form}" if head == "i" else f"{lead} {form[0].lower()}{form[1:]}"


def _opening(turn: _Turn, held: set[str]) -> list[str]:
    """The greeting in the first turn (none from a user who likes replies that come to the point), afterwards the
    reaction to the last reply: warmer if it fits, cooler if not, then with a remark on what it missed."""
    mood = temper(turn.persona)
    if not turn.dialogue:
        return [] if "opener.straight" in held else [turn.pick(mood.greetings, "greeting")]
    verdict = assess(turn.persona, turn.dialogue[:-1], turn.dialogue[-1].content)
    if verdict.value >= PLEASED:
        return [turn.pick(mood.pleased, "pleased")]
    if verdict.value >= COOL:
        return [turn.pick(mood.even, "even")]
    cooler = turn.pick(mood.cool, "cool")
    slights = _slights(turn, verdict)
    if not slights:
        return [cooler]
    remark = turn.pick(slights, "slight")
    return [remark] if "length.brief" in held else [cooler, remark]


def _slights(turn: _Turn, verdict: Assessment) -> Sequence[str]:
    """Remarks on the worst fault of a reply, or on the trait that it missed most."""
    if verdict.fault is not None:
        return FAULTS[verdict.fault]
    missed = [style for style in styles_of(turn.persona) if verdict.styles.get(style.id, 1.0) < 1.0]
    return min(missed, key=lambda style: verdict.styles[style.id]).slights if missed else ()


def _phrase(turn: _Turn, facts: Sequence[Fact]) -> list[str]:
    """A remark that shows a trait: the next one not shown yet; later, every second time, one shown before."""
    shown = shown_facts(turn.persona, turn.dialogue)
    past = [fact for fact in facts_of(turn.persona) if fact.id in shown and fact not in facts]
    styles = [style for style in styles_of(turn.persona) if style.habit is None and (past or not _needs_past(style))]
    styles.sort(key=lambda style: number(*turn.key[:-1], "order", style.id))
    known = shown_styles(turn.persona, turn.dialogue)
    fresh = [style for style in styles if style.id not in known]
    if fresh:
        style = fresh[0]
    elif styles and number(*turn.key, "again") % 2 == 0:
        style = draw(styles, *turn.key, "phrase of")
    else:
        return []
    topic = draw(past, *turn.key, "topic").topic if _needs_past(style) else ""
    return [turn.pick(style.phrases, "phrase").format(topic=topic)]


def _needs_past(style: Style) -> bool:
    return any("{topic}" in phrase for phrase in style.phrases)


def _small_talk(turn: _Turn, count: int) -> list[str]:
    chosen: list[str] = []
    for row in range(count):
        chosen.append(turn.pick([text for text in SMALL_TALK if text not in chosen], f"small talk {row}"))
    return chosen


def _dress(turn: _Turn, sentences: Sequence[str], held: set[str]) -> str:
    """The sentences as this user types them."""
    text = " ".join(sentences)
    if "register.formal" in held:
        text = expand_contractions(text)
    if "energy.lively" in held:
        stops = [row for row, letter in enumerate(text) if letter == "."]
        place = stops[number(*turn.key, "lively") % len(stops)]
        text = f"{text[:place]}!{text[place + 1 :]}"
    if "register.lower" in held:
        text = text.lower()
    if "emoji.emoji" in held:
        text = f"{text} {draw(EMOJI, *turn.key, 'emoji')}"
    return text


class ScriptedUser:
    """Implements `data_gen.roles.User` without a model."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    async def message(self, persona: Persona, dialogue: Dialogue, seed: int = 0) -> Said:
        """See `write_message`; the `seed` of the call has no effect."""
        return Said(write_message(persona, dialogue, self.seed))
