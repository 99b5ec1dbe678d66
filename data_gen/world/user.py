"""The scripted user: writes as its persona does, one or two facts per turn, and reacts to the reply it got.

A message depends only on (persona, dialogue, seed). The dialogue has everything that the user needs of the past, so it
may fork at any reply. Siblings of one turn get the same facts, unless the user corrects one of them; what the user
likes it shows according to the reply.

Order in which things show: at most one new trait per turn, habits included, so that a habit begins in the turn that
reveals it. A reply that asks about an axis (`styles.CUES`) gets the trait of that axis next. After a poor reply
(`Simulator.miss`) the user withholds: no new trait in this turn. `memory.recalls` never shows in the first turn. One or
two facts per turn, and after the last one the user comes back to an earlier fact in other words. Number of sentences:
at most three once a user has shown that it likes brief replies, six or more for fuller ones, else four or five. This is
simulator A; `simulators` has what differs in the held-out one.

`events` and `styles` say which users change a preference, go off topic or correct. The change comes in its turn
whatever the reply, and is that turn's new trait. A question of fact and a favour for somebody else (`occasions`) bring
neither a fact nor a trait; a user that wishes for plain answers says so once and then writes plainly itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Dialogue, Said
from data_gen.seeds import draw, number
from data_gen.text import expand_contractions, normal
from data_gen.world.events import corrects, kind_in, neutral_from, wanders_in
from data_gen.world.facts import Fact, asides, facts_of, shown_facts, split_of, user_turns
from data_gen.world.judge import PERSONAL, Assessment, assess
from data_gen.world.occasion_texts import ERRANDS, FRAMES, PLEAS, QUESTIONS, WANTS
from data_gen.world.occasions import topics
from data_gen.world.remarks import EMOJI, Temper
from data_gen.world.simulators import A, Simulator
from data_gen.world.style import Style
from data_gen.world.styles import BY_ID, axes_asked, change_of, shown_styles, styles_of

_LOWERED = frozenset(("the", "my", "a", "an", "we", "he", "they", "this", "that", "there", "our"))


def temper(persona: Persona, simulator: Simulator = A) -> Temper:
    """The user's mood, determined by its traits: cheerful, impatient, blunt, anxious, sarcastic or dry."""
    ids = [style.id for style in styles_of(persona)]
    unfit = {name for id in ids for name in simulator.unfit.get(id, ())}
    fitting = [temper for temper in simulator.tempers if temper.name not in unfit]
    return draw(fitting or simulator.tempers, "temper", *sorted(ids))


@dataclass(frozen=True)
class _Turn:
    """What one message is made from; `key` determines every draw of this turn, whose `number` counts
    from 1."""

    persona: Persona
    dialogue: Sequence[Message]
    key: tuple[object, ...]
    number: int
    simulator: Simulator

    def pick(self, options: Sequence[str], purpose: str) -> str:
        """One of `options`, if possible one that the user has not written yet."""
        past = normal(expand_contractions(" ".join(user_turns(self.dialogue))))
        fresh = [text for text in options if normal(expand_contractions(text.split("{")[0])) not in past]
        return draw(fresh or options, *self.key, purpose)


def write_message(persona: Persona, dialogue: Sequence[Message], seed: int, simulator: Simulator = A) -> str:
    """The user's next message. InputError unless `dialogue` is empty or ends with a reply."""
    if dialogue and dialogue[-1].role != "assistant":
        raise InputError("dialogue must be empty or end with an assistant message for the user to go on")
    ids = [item.id for item in (*persona.facts, *persona.traits)]
    place = len(user_turns(dialogue)) + 1
    turn = _Turn(persona, dialogue, (seed, *ids, len(dialogue)), place, simulator)
    verdict = assess(persona, dialogue[:-1], dialogue[-1].content) if dialogue else None
    fresh = _fresh(turn, verdict)
    known = shown_styles(persona, dialogue)
    present = {style.id for style in styles_of(persona, place)}
    held = (known.keys() & present) | ({fresh.id} if fresh is not None else set())
    asked = _asked(turn)
    facts = [] if asked else _facts(turn, held, verdict)
    told = asked or [turn.pick(fact.forms, f"form {fact.id}") for fact in facts]
    if "length.brief" not in held and not asked:
        told[0] = _lead_in(turn, told[0])
    opening = _opening(turn, held, verdict)
    phrase = [] if asked else _phrase(turn, fresh, held)
    wanted = 1 if "length.brief" in held else 6 if "length.roomy" in held else 4
    room = wanted - len(opening) - len(told) - len(phrase)
    middle = _small_talk(turn, max(0, room))
    sentences = [*opening, *middle, *told] if asked else [*opening, told[0], *middle, *told[1:], *phrase]
    return _dress(turn, sentences, held)


def _asked(turn: _Turn) -> list[str]:
    """A question of fact, or a favour for somebody else and what that person wants; nothing in other turns."""
    kind, split = kind_in(turn.persona, turn.number), split_of(turn.persona)
    if kind == "asks":
        return [draw(FRAMES[split], *turn.key, "frame").format(draw(QUESTIONS[split], *turn.key, "question").text)]
    if kind == "other":
        plea = draw(PLEAS[split], *turn.key, "plea").format(draw(ERRANDS[split], *turn.key, "errand").text)
        wants = WANTS[split]
        return [plea, draw(wants[draw(sorted(wants), *turn.key, "wanted")], *turn.key, "wants")]
    return []


def _fresh(turn: _Turn, verdict: Assessment | None) -> Style | None:
    """The setting that the user shows for the first time in this turn, if any."""
    if kind_in(turn.persona, turn.number) in ("asks", "other"):
        return None
    if (new := _taken_up(turn)) is not None:
        return new
    if turn.number < turn.simulator.opens or _withholds(turn, verdict):
        return None
    known = shown_styles(turn.persona, turn.dialogue)
    able = [
        style
        for style in styles_of(turn.persona, turn.number)
        if style.id not in known and (turn.number > 1 or not _needs_past(turn, style))
    ]
    asked = axes_asked(turn.dialogue[-1].content) if turn.dialogue else ()
    answers = sorted((style for style in able if style.axis in asked), key=lambda style: asked.index(style.axis))
    if answers:
        return answers[0]
    return min(able, key=lambda style: number(*turn.key[:-1], "order", style.id), default=None)


def _taken_up(turn: _Turn) -> Style | None:
    """The setting that the user changes to in this turn, if it does: none where it has wished for plain answers."""
    change = change_of(turn.persona)
    if change is None or change[1] != turn.number:
        return None
    return change[0] if change[0] in styles_of(turn.persona, turn.number) else None


def _withholds(turn: _Turn, verdict: Assessment | None) -> bool:
    """Whether one of the last replies was too poor for the user to show anything new."""
    if verdict is None or verdict.value < turn.simulator.miss:
        return verdict is not None
    ends = range(len(turn.dialogue) - 3, 0, -2)[: turn.simulator.withholds - 1]
    earlier = (assess(turn.persona, turn.dialogue[:end], turn.dialogue[end].content) for end in ends)
    return any(each.value < turn.simulator.miss for each in earlier)


def _facts(turn: _Turn, held: Collection[str], verdict: Assessment | None) -> list[Fact]:
    """The one or two facts of this turn: new ones while there are any, then told ones. A user who writes at length
    pairs a new fact with a told one after the first turn. A user that is off topic speaks of an aside alone; one that
    corrects the last reply comes back to what it was about."""
    if wanders_in(turn.persona) == turn.number:
        return [draw(asides(split_of(turn.persona)), *turn.key, "aside")]
    if _correction(turn, verdict):
        return topics(turn.persona, turn.dialogue[:-1])[:1]
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


def _correction(turn: _Turn, verdict: Assessment | None) -> Sequence[str]:
    """What a user that corrects says to a wrong reply; nothing if there is nothing to correct,
    or the reply was to an aside."""
    before = turn.number - 1
    strayed = wanders_in(turn.persona) == before or kind_in(turn.persona, before) in ("asks", "other")
    if verdict is None or verdict.fault is None or strayed or not corrects(turn.persona):
        return ()
    return turn.simulator.corrections.get(verdict.fault, ())


def _told(turn: _Turn, fact: Fact) -> tuple[int, int]:
    """Sort key that puts facts with untold forms first, and among them the one told longest ago."""
    past = [normal(expand_contractions(text)) for text in user_turns(turn.dialogue)]
    forms = [normal(expand_contractions(form)) for form in fact.forms]
    turns = [row for row, text in enumerate(past) if any(form.strip() in text for form in forms)]
    return len(turns), max(turns, default=0)


def _lead_in(turn: _Turn, form: str) -> str:
    """The form, which half of the messages introduce with a lead-in, if its first word allows it."""
    head = form.split()[0].split("'")[0].lower()
    if (head not in _LOWERED and head != "i") or number(*turn.key, "lead in") % 2:
        return form
    lead = turn.pick(turn.simulator.lead_ins, "lead")
    return f"{lead} {form}" if head == "i" else f"{lead} {form[0].lower()}{form[1:]}"


def _opening(turn: _Turn, held: Collection[str], verdict: Assessment | None) -> list[str]:
    """The greeting in the first turn (none from a user who likes replies that come to the point), afterwards the
    reaction to the last reply: warmer if it fits, cooler if not, then with a remark on what it missed. Users that go
    off topic, ask something else, change or correct say so instead."""
    mood = temper(turn.persona, turn.simulator)
    kind = kind_in(turn.persona, turn.number)
    if kind == "other":
        return [turn.pick(turn.simulator.for_others, "for others")]
    if kind == "asks" or wanders_in(turn.persona) == turn.number:
        return [turn.pick(turn.simulator.strays, "stray")]
    if neutral_from(turn.persona) == turn.number:
        return [turn.pick(turn.simulator.plain_wishes, "plain wish")]
    if _taken_up(turn) is not None:
        return [turn.pick(turn.simulator.taken_back, "taken back")]
    if verdict is None:
        return [] if "opener.straight" in held else [turn.pick(mood.greetings, "greeting")]
    if corrections := _correction(turn, verdict):
        return [turn.pick(corrections, "correction")]
    if verdict.value >= turn.simulator.pleased:
        return [turn.pick(mood.pleased, "pleased")]
    if verdict.value >= turn.simulator.cool:
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
        return turn.simulator.too_personal if verdict.fault == PERSONAL else turn.simulator.faults[verdict.fault]
    missed = [id for id, fit in verdict.styles.items() if fit < 1.0]
    if not missed:
        return ()
    return turn.simulator.slights_of(BY_ID[min(missed, key=lambda id: verdict.styles[id])])


def _phrase(turn: _Turn, fresh: Style | None, held: Collection[str]) -> list[str]:
    """A remark that shows a trait: the fresh one unless it is a habit; where there is none, every second time one shown
    before."""
    past = [fact for fact in facts_of(turn.persona) if fact.id in shown_facts(turn.persona, turn.dialogue)]
    again = [style for style in styles_of(turn.persona, turn.number) if style.id in held and style.phrases]
    if fresh is not None:
        style = fresh
    elif again and number(*turn.key, "again") % 2 == 0:
        style = draw(again, *turn.key, "phrase of")
    else:
        return []
    if style.habit is not None:
        return []
    topic = draw(past, *turn.key, "topic").topic if _needs_past(turn, style) else ""
    return [turn.pick(turn.simulator.phrases_of(style), "phrase").format(topic=topic)]


def _needs_past(turn: _Turn, style: Style) -> bool:
    return any("{topic}" in phrase for phrase in turn.simulator.phrases_of(style))


def _small_talk(turn: _Turn, count: int) -> list[str]:
    chosen: list[str] = []
    for row in range(count):
        chosen.append(
            turn.pick([text for text in turn.simulator.small_talk if text not in chosen], f"small talk {row}")
        )
    return chosen


def _dress(turn: _Turn, sentences: list[str], held: Collection[str]) -> str:
    """The sentences as this user types them."""
    if "aside.brackets" in held:
        row = max((row for row, text in enumerate(sentences) if text.endswith(".")), default=0)
        sentences[row] = f"({sentences[row].removesuffix('.')})."
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
    """Implements `data_gen.roles.User` without a model. With a `seed` its messages depend on that and on the dialogue;
    with None the seed of each call takes its place, and one dialogue may go on in many ways."""

    def __init__(self, seed: int | None = 0, simulator: Simulator = A) -> None:
        self.seed, self.simulator = seed, simulator

    async def message(self, persona: Persona, dialogue: Dialogue, seed: int = 0) -> Said:
        """See `write_message`; the `seed` of the call has no effect where the user has one."""
        return Said(write_message(persona, dialogue, seed if self.seed is None else self.seed, self.simulator))
