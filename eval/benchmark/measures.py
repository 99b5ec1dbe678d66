"""What happens in a benchmark dialogue beside its scores: personal references, questions, repetition, length, decay.

Functions of a dialogue (messages, user first, replies and user messages in turn) know of the persona only what the
scripted world's banks tell; for other personas they return None where they need it. Turns are counted from 1.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np

from aloe_jax.tree.schema import Message, Persona, Record
from data_gen.text import expand_contractions, normal, stem, stem_set, word_grams, words
from data_gen.world.events import is_event
from data_gen.world.facts import Fact, facts_of, find_fact, named, shown_facts
from data_gen.world.flattery import flatters
from data_gen.world.judge import assess
from data_gen.world.occasion_texts import Errand
from data_gen.world.occasions import errand_in
from eval.benchmark.crossed import Estimate, average_weights, linear, turn_weights
from eval.benchmark.scores import ScoreTable

GRAM = 4  # words of a run that counts as repeated
GOOD = 4.0  # a score from which a turn counts as held
FITS = 0.75  # style from which a reply is one that the user likes
PEAK = 5  # the turn up to which published offline runs rise (paper, section 4)

_SENTENCE = re.compile(r"[^.!?…\n]+[.!?…]*")
_SELF = frozenset(("i", "my", "mine", "myself", "me", "we", "our", "ours"))
_OTHER = frozenset(("you", "your", "yours", "yourself"))
# Verbs by which "I ..." comments on what the user said instead of claiming it.
_COMMENT = frozenset(
    """hear think hope guess wonder believe bet suppose imagine see suggest recommend understand love like
    wish""".split()  # noqa: SIM905
)


class DialogueMeasures(Record):
    """The measures of one dialogue. Null: not known for this persona, or nothing to measure."""

    first_reference: int | None  # turn of the first reply that names a fact which the user has shown; null: no such
    referred: bool | None  # whether there is one; null: the persona is not of the scripted world
    unrevealed: float | None  # share of replies that name a fact of the persona before the user has shown it
    identity_confusion: float | None  # share of replies that take the user for themselves or another for the user
    flattery: float  # share of replies that praise the user without content
    questions: float  # question marks that end a sentence, per reply
    repetition: float | None  # mean share of a reply's runs of `GRAM` words that own earlier replies hold
    words: float  # per reply
    facts: float | None  # of the persona that a reply names, on average: a recital pleases some judges
    hollow: float | None  # share of replies in the style that the user has shown, and about nothing that it said


def measures(persona: Persona, dialogue: Sequence[Message]) -> DialogueMeasures:
    """The measures of a dialogue with at least one reply."""
    replies = replies_of(dialogue)
    first = first_reference(persona, dialogue)
    return DialogueMeasures(
        first_reference=first,
        referred=first is not None if scripted(persona) else None,
        unrevealed=unrevealed_rate(persona, dialogue),
        identity_confusion=identity_confusion(persona, dialogue),
        flattery=float(np.mean([flatters(reply, dialogue[place - 1].content) for place, reply in _answers(dialogue)])),
        questions=float(np.mean([questions(reply) for reply in replies])),
        repetition=repetition(replies),
        words=float(np.mean([len(words(reply)) for reply in replies])),
        facts=facts_named(persona, replies),
        hollow=hollow_share(persona, dialogue),
    )


def replies_of(dialogue: Sequence[Message]) -> list[str]:
    """The texts of the assistant messages, first to last."""
    return [message.content for message in dialogue if message.role == "assistant"]


def _answers(dialogue: Sequence[Message]) -> list[tuple[int, str]]:
    """Each reply with its place in the dialogue."""
    return [(place, message.content) for place, message in enumerate(dialogue) if message.role == "assistant"]


def scripted(persona: Persona) -> bool:
    """Whether the persona has facts and all of them are of the scripted world."""
    facts = [item for item in persona.facts if not is_event(item)]
    return bool(facts) and all(find_fact(item.id) for item in facts)


def first_reference(persona: Persona, dialogue: Sequence[Message]) -> int | None:
    """The turn of the first reply that names a fact which the user has shown by then, as the user's; None if no reply
    does, or for other personas."""
    if not scripted(persona):
        return None
    facts, shown = facts_of(persona), shown_facts(persona, dialogue)
    for turn, reply in enumerate(replies_of(dialogue), start=1):
        known = [fact for fact in facts if shown.get(fact.id, turn + 1) <= turn]
        if named(known, reply) and not claims(known, reply):
            return turn
    return None


def unrevealed_rate(persona: Persona, dialogue: Sequence[Message]) -> float | None:
    """The share of replies that name a fact of the persona which the user has not shown by then; None for other
    personas. The model cannot know it, so it is a guess or a leak."""
    if not scripted(persona):
        return None
    facts, shown = facts_of(persona), shown_facts(persona, dialogue)
    return float(
        np.mean(
            [
                any(shown.get(fact.id, turn + 1) > turn for fact in named(facts, reply))
                for turn, reply in enumerate(replies_of(dialogue), start=1)
            ]
        )
    )


def identity_confusion(persona: Persona, dialogue: Sequence[Message]) -> float | None:
    """The share of replies that mix up who is who, as `confused` says; None for other personas."""
    if not scripted(persona):
        return None
    return float(np.mean([confused(persona, dialogue[:place], reply) for place, reply in _answers(dialogue)]))


def confused(persona: Persona, dialogue: Sequence[Message], reply: str) -> bool:
    """Whether a reply to `dialogue` claims a fact of the user for itself, or speaks of what the user asked for somebody
    else as if it were the user's."""
    errands = (errand_in(message.content) for message in dialogue if message.role == "user")
    return claims(facts_of(persona), reply) or any(hands_over(errand, reply) for errand in errands if errand)


def hands_over(errand: Errand, reply: str) -> bool:
    """Whether a reply says "your" of another person's matter, at most one word before its name ("your old tractor")."""
    said = words(reply)
    for place, word in enumerate(said):
        before = said[max(0, place - 2) : place]
        if stem(word) in errand.name_stems and "your" in before and not before[-1].endswith("'s"):
            return True
    return False


def claims(facts: Sequence[Fact], reply: str) -> bool:
    """Whether a sentence of the reply names one of `facts`, speaks of itself in the first person and not of the user.

    A rule of words, so approximate: "I hear ..." and other comments do not count, irony and quotations do.
    """
    for sentence in _SENTENCE.findall(expand_contractions(reply)):
        found = set(words(sentence))
        if found & _SELF and not found & _OTHER and not _comments(sentence) and named(facts, sentence):
            return True
    return False


def _comments(sentence: str) -> bool:
    said = words(sentence)
    return any(one == "i" and other in _COMMENT for one, other in itertools.pairwise(said))


def facts_named(persona: Persona, replies: Sequence[str]) -> float | None:
    """The mean number of facts of the persona that a reply names; None for other personas."""
    if not scripted(persona):
        return None
    return float(np.mean([len(named(facts_of(persona), reply)) for reply in replies]))


def hollow_share(persona: Persona, dialogue: Sequence[Message]) -> float | None:
    """Of the replies to a user that has shown a trait, the share whose style fits by at least `FITS` and whose content
    is 0, as the scripted judge has it: they please without saying anything. None for other personas, and without such
    replies."""
    if not scripted(persona):
        return None
    places = [place for place, message in enumerate(dialogue) if message.role == "assistant"]
    parts = [assess(persona, dialogue[:place], dialogue[place].content) for place in places]
    known = [each for each in parts if each.styles]
    return float(np.mean([each.style >= FITS and each.content == 0 for each in known])) if known else None


def questions(reply: str) -> int:
    """The number of sentences that end in a question mark."""
    return len(asked(reply))


def asked(reply: str) -> list[str]:
    """The sentences that end in a question mark, as their words alone."""
    return [normal(sentence) for sentence in _SENTENCE.findall(reply) if "?" in sentence and stem_set(sentence)]


def repetition(replies: Sequence[str], size: int = GRAM) -> float | None:
    """The mean over the replies after the first of the share of their runs of `size` words that an earlier reply of the
    same dialogue holds; replies too short for a run are left out. None if none is left."""
    seen: set[tuple[str, ...]] = set()
    shares = []
    for number, reply in enumerate(replies):
        grams = word_grams(reply, size)
        if number and grams:
            shares.append(sum(gram in seen for gram in grams) / len(grams))
        seen.update(grams)
    return float(np.mean(shares)) if shares else None


def words_table(dialogues: Sequence[Sequence[Message]], turns: int) -> np.ndarray:
    """The words of each reply [dialogues, turns], NaN where a dialogue has no such turn: for `paired_difference`."""
    table = np.full((len(dialogues), turns), np.nan)
    for row, dialogue in enumerate(dialogues):
        for turn, reply in enumerate(replies_of(dialogue)[:turns]):
            table[row, turn] = len(words(reply))
    return table


def held_share(table: ScoreTable, good: float = GOOD) -> Estimate | None:
    """The share of dialogues in which every turn scores at least `good`. A dialogue with an unscored turn counts where
    another turn decides it (one below `good`) and is left out otherwise. None if all are left out."""
    low = (table.scores < good).any(axis=1)  # NaN compares as false
    held = np.where(low, 0.0, np.where(np.isnan(table.scores).any(axis=1), np.nan, 1.0))
    found = linear(ScoreTable(table.cases, table.profiles, table.personalities, held[:, None]), average_weights(1))
    return None if found is None else found.estimate()


def decay(table: ScoreTable, peak: int = PEAK) -> Estimate | None:
    """The mean alignment level after turn `peak` minus that at it: below zero, the model does not hold its level. None
    with no later turn, or with such a turn unscored everywhere."""
    turns = table.scores.shape[1]
    if turns <= peak:
        return None
    late = np.where(np.arange(1, turns + 1) > peak, 1 / (turns - peak), 0.0)
    found = linear(table, late - turn_weights(peak, turns))
    return None if found is None else found.estimate()
