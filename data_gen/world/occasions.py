"""Turns in which a reply is not to be about the user, and what is right in them.

- `asks`: a question of fact. The right answer counts; facts and flourishes of the user are out of place.
- `other`: for somebody else. That person's matter counts, and the setting that the message says is wanted; facts and
  other flourishes of the user are out of place.
- `neutral`: plain from here on. The matter of the message counts, and the user's settings of form; flourishes of any
  kind are out of place, and facts other than those of the message.

Flourishes (`style_table.FLOURISHES`) are settings that add something which the content does without: an emoji, a
sign-off, a saying. Settings of form (length, letters, plain words, what is avoided) leave the content as it is; of
a question and a favour they neither count nor cost. A user that wishes for plain answers holds no flourish from then on
(`styles.styles_of`). What a turn asks for is read in the message, so a user that is played by a model, whose questions
are in no bank, has ordinary turns instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aloe_jax.tree.schema import Message, Persona
from data_gen.text import WORD, expand_contractions, normal
from data_gen.world.events import Kind, kind_in, neutral_from, wanders_in
from data_gen.world.facts import SPLITS, Fact, asides, facts_of, named, shown_facts, split_of, user_turns
from data_gen.world.occasion_texts import ERRANDS, QUESTIONS, WANTS, Errand, Question
from data_gen.world.style_table import FLOURISHES
from data_gen.world.styles import BY_ID, change_of, shown_styles, styles_in, styles_of

ORDINARY, FLIP = "ordinary", "flip"  # kinds of turns beside those of `events`
_NUMBER = frozenset("0123456789")
_SEEN = FLOURISHES - {"memory.recalls"}  # by their checkers; a fact recalled is seen as a fact


@dataclass(frozen=True)
class Occasion:
    """What a turn of a kind is about: a `question`, or an `errand` and the setting `wanted` for it."""

    kind: Kind
    question: Question | None = None
    errand: Errand | None = None
    wanted: str | None = None


def occasion_of(persona: Persona, dialogue: Sequence[Message]) -> Occasion | None:
    """What the latest message, with which `dialogue` ends, asks for; None in an ordinary turn."""
    kind = kind_in(persona, len(user_turns(dialogue)))
    if kind is None or kind == "neutral":
        return None if kind is None else Occasion(kind)
    said = normal(expand_contractions(dialogue[-1].content))
    if kind == "asks":
        asked = (each for split in SPLITS for each in QUESTIONS[split] if normal(each.text) in said)
        question = next(asked, None)
        return Occasion(kind, question=question) if question else None
    errand = errand_in(dialogue[-1].content)
    wants = (
        id for split in SPLITS for id, texts in WANTS[split].items() if any(normal(text) in said for text in texts)
    )
    return Occasion(kind, errand=errand, wanted=next(wants, None)) if errand else None


def errand_in(message: str) -> Errand | None:
    """The errand that a message is about; None if it is about none."""
    said = normal(expand_contractions(message))
    return next((each for split in SPLITS for each in ERRANDS[split] if normal(each.text) in said), None)


def topics(persona: Persona, dialogue: Sequence[Message]) -> list[Fact]:
    """What the latest user message is about: its question or errand, or else the shown facts that it names, and the
    aside of a user that is off topic."""
    occasion = occasion_of(persona, dialogue)
    if occasion is not None and occasion.question is not None:
        return [occasion.question.subject]
    if occasion is not None and occasion.errand is not None:
        return [occasion.errand]
    shown = shown_facts(persona, dialogue)
    found = named([fact for fact in facts_of(persona) if fact.id in shown], dialogue[-1].content)
    if wanders_in(persona) == len(user_turns(dialogue)):
        found += named(asides(split_of(persona)), dialogue[-1].content)
    return found


def counted_styles(persona: Persona, dialogue: Sequence[Message]) -> tuple[str, ...]:
    """The ids of the settings that a reply to `dialogue` is to meet: those that the user has shown, but for somebody
    else what that person wants, and for a question of fact none."""
    occasion = occasion_of(persona, dialogue)
    if occasion is None or occasion.kind == "neutral":
        return tuple(shown_styles(persona, dialogue))
    return (occasion.wanted,) if occasion.wanted else ()


def answered(question: Question, reply: str) -> float:
    """1 for a right answer, 0 without one, half for one beside which others are given."""
    said = normal(reply)
    if not any(f" {' '.join(WORD.findall(answer.casefold()))} " in said for answer in question.answers):
        return 0.0
    own = set(normal(" ".join((question.text, *question.answers))).split())
    others = {word for word in said.split() if word in question.options or not _NUMBER.isdisjoint(word)} - own
    return 0.5 if others else 1.0


def personal(persona: Persona, dialogue: Sequence[Message], reply: str) -> tuple[str, ...]:
    """The ids of what a reply has of the user: facts that the user has shown by now, and flourishes that it has shown
    that it likes. Left out in a turn of a kind: what the message itself is about or wants."""
    occasion = occasion_of(persona, dialogue)
    shown, latest = shown_facts(persona, dialogue), dialogue[-1].content if occasion is not None else ""
    facts = [fact for fact in facts_of(persona) if fact.id in shown and not named([fact], latest)]
    found = [fact.id for fact in named(facts, reply)]
    wanted = occasion.wanted if occasion is not None else None
    liked = [id for id in _liked(persona, dialogue) if id != wanted]
    return (*found, *(id for id in liked if BY_ID[id].check(reply, dialogue, persona) == 1.0))


def frills(persona: Persona, dialogue: Sequence[Message], reply: str) -> int:
    """How much of a reply is out of place in a turn of a kind: the items of `personal`, and where plain answers are
    wished for all flourishes, the user's or not. 0 in an ordinary turn."""
    occasion = occasion_of(persona, dialogue)
    if occasion is None:
        return 0
    found = set(personal(persona, dialogue, reply))
    if occasion.kind == "neutral":
        found |= {id for id in _SEEN if BY_ID[id].check(reply, dialogue, persona) == 1.0}
    return len(found)


def over_personal(persona: Persona, dialogue: Sequence[Message], reply: str) -> tuple[str, bool]:
    """The kind of the turn that `reply` answers, and whether it is personal there. In turns of a kind it is not to be;
    in ordinary ones it may. After a flip what counts is the setting that the user has given up: whether the
    reply has it and not the new one."""
    occasion, change, turn = occasion_of(persona, dialogue), change_of(persona), len(user_turns(dialogue))
    if occasion is not None:
        return occasion.kind, bool(personal(persona, dialogue, reply))
    if change is None or turn < change[1]:
        return ORDINARY, bool(personal(persona, dialogue, reply))
    new = change[0]
    old = next((style for style in styles_of(persona, change[1] - 1) if style.axis == new.axis), None)
    kept = old is not None and old.check(reply, dialogue, persona) == 1.0
    return FLIP, kept and new.check(reply, dialogue, persona) < 1.0


def _liked(persona: Persona, dialogue: Sequence[Message]) -> list[str]:
    """The flourishes that the user has shown that it likes, before it wished for plain answers if it did."""
    texts, start = user_turns(dialogue), neutral_from(persona)
    turn = len(texts) if start is None else min(len(texts), start - 1)
    if turn < 1:
        return []
    held = [style.id for style in styles_of(persona, turn) if style.id in _SEEN]
    return [id for id in held if any(id in styles_in(text) for text in texts[:turn])]
