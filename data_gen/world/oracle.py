"""The oracle: replies that fit everything the user has shown, composed of sentences of its own (`sentences`). Where a
reply is not to be about the user (`occasions`) it answers the question, writes for the other person, or stays plain.

It proves that the top of the scripted judge's scale can be reached at every turn, and it is the teacher of a run whose
teacher is scripted. It reads the persona, which no model is given; it uses of it only what the user has shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from aloe_jax.tree.schema import Message, Persona
from data_gen.seeds import draw, number
from data_gen.text import content_words
from data_gen.world.facts import Fact, Split, facts_of, shown_facts, split_of, user_turns
from data_gen.world.judge import Assessment, assess
from data_gen.world.occasion_texts import ANSWERS, NOTES
from data_gen.world.occasions import counted_styles, occasion_of, topics
from data_gen.world.remarks import EMOJI
from data_gen.world.sentences import BANKS, FILLER, MISSES

_DRAFTS = 24


def oracle_reply(
    persona: Persona, dialogue: Sequence[Message], seed: int = 0, skill: float = 1.0, split: Split | None = None
) -> str:
    """A reply that names a fact of the latest message and fits the shown styles: the best of some drafts by the judge's
    score, so that it does not repeat itself either. It depends only on its arguments.

    With `skill` below 1 each shown style is met with that probability, drawn anew in each turn, and missed otherwise.
    `split` is whose sentences it speaks in; by default that of the persona's facts.
    """
    latest = dialogue[-1].content
    shown = counted_styles(persona, dialogue)
    met = {id for id in shown if number("skill", seed, persona.id, latest, id) % 10_000 < 10_000 * skill}
    best, best_value = "", -1.0
    for row in range(_DRAFTS):
        reply = _draft(persona, dialogue, met, set(shown) - met, split or split_of(persona), (seed, row, latest))
        value = _fit(assess(persona, dialogue, reply), met)
        if value > best_value:
            best, best_value = reply, value
        if value > 1.0 - 1e-9:
            break
    return best


def _fit(parts: Assessment, met: Collection[str]) -> float:
    """How well a draft does what it was drawn to do, in [0, 1]."""
    style = sum(parts.styles[id] for id in met) / len(met) if met else 1.0
    return parts.engaging * parts.tact * parts.restraint * (style + parts.content) / 2


def _draft(
    persona: Persona,
    dialogue: Sequence[Message],
    met: Collection[str],
    missed: Collection[str],
    split: Split,
    key: tuple[object, ...],
) -> str:
    occasion = occasion_of(persona, dialogue)
    if occasion is not None and occasion.question is not None:
        return draw(ANSWERS[split], *key, "answer").format(occasion.question.answers[0])
    cores = NOTES[split] if occasion is not None and occasion.errand is not None else None
    return composed(_fields(persona, dialogue, key), met, split, key, missed, cores)


def composed(
    fields: Mapping[str, str],
    met: Collection[str],
    split: Split,
    key: tuple[object, ...],
    missed: Collection[str] = (),
    cores: Sequence[str] | None = None,
) -> str:
    """A reply of sentences of the `split`, drawn with `key`, that meets the style settings `met` and misses `missed`.
    `fields` has what it is about: the "topic", an "other" word of its field, and an "older" topic; `cores` are the
    sentences that say so, by default the bank's."""
    bank = BANKS[split]
    if "quote.marks" in met:
        fields = {**fields, "topic": f'"{fields["topic"]}"'}
    core = draw(cores or bank.cores, *key, "core").removesuffix(".")
    for id, tags in bank.tags.items():
        if id in met:
            tag = draw(tags, *key, id)
            core += tag if tag.startswith(",") else f" {tag}"
    parts = [f"{core}."]
    # The question comes after what is told, the sign-off last.
    parts += [draw(texts, *key, id) for id, texts in bank.extras.items() if id in met]
    if "length.roomy" in met:
        parts.insert(1, draw(bank.padding, *key, "padding"))
    parts[1:1] = [MISSES[id] for id in MISSES if id in missed]
    if "opener.straight" in missed:
        parts.insert(0, FILLER)
    sentences = [part.format_map(fields) for part in parts]
    if "length.brief" in met:
        sentences = _joined(sentences)
    return _dressed(sentences, met, key)


def _fields(persona: Persona, dialogue: Sequence[Message], key: tuple[object, ...]) -> dict[str, str]:
    """What the sentences are about: facts that the latest message names or, where it names none, that have shown, or
    words of the message."""
    turn = len(user_turns(dialogue))
    shown = shown_facts(persona, dialogue)
    facts = [fact for fact in facts_of(persona) if fact.id in shown]
    topical = topics(persona, dialogue)
    if not topical and not facts:  # of a user that a model plays
        told = sorted(content_words(dialogue[-1].content), key=lambda word: -len(word)) or ["day"]
        return {"topic": told[0], "other": told[-1], "older": told[0]}
    topical = topical or facts
    older = [fact for fact in facts if shown[fact.id] < turn and fact not in topical]
    topic: Fact = draw(topical, *key, "topic")
    return {
        "topic": topic.topic,
        "other": draw(topic.related, *key, "other"),
        "older": draw(older or facts or topical, *key, "older").topic,
    }


def _joined(sentences: Sequence[str]) -> list[str]:
    """At most two sentences: the question, and the rest joined into one."""
    questions = [text for text in sentences if text.endswith("?")]
    told = [text.removesuffix(".") for text in sentences if not text.endswith("?")]
    one = "; ".join([told[0], *(text if text.startswith("I ") else text[0].lower() + text[1:] for text in told[1:])])
    signed = bool(sentences) and not sentences[-1].endswith("?")
    return [*questions, f"{one}."] if signed else [f"{one}.", *questions]


def _dressed(sentences: Sequence[str], met: Collection[str], key: tuple[object, ...]) -> str:
    text = " ".join(sentences)
    if "energy.lively" in met:
        text = text.replace(".", "!", 1)
    if "register.lower" in met:
        text = text.lower()
    if "emoji.emoji" in met:
        text = f"{text} {draw(EMOJI, *key, 'emoji')}"
    return text
