"""Dialogues that teach a model to speak, before any alignment: replies on the topic, in anybody's style.

The scripted user of the training split talks, and replies are composed of the oracle's sentences for style settings
drawn at random, so they tell nothing about what the user likes. In each dialogue most words of the user's facts are
renamed, by made-up words or by words of other facts: what a reply is about can only be read in the message, and no word
is worth remembering. Models of any size learn from such text to take words from the context (induction heads,
arXiv 2209.11895); a dialogue of the 150 facts of the bank is learnt by heart instead.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence

from aloe_jax.tree.schema import Conversation, Message, Node, Persona
from data_gen.text import FUNCTION_WORDS, expand_contractions, stem, words
from data_gen.world.facts import Fact, bank, facts_of, shown_facts
from data_gen.world.occasions import topics
from data_gen.world.oracle import composed
from data_gen.world.personas import scripted_personas
from data_gen.world.remarks import CORRECTIONS, FAULTS, LEAD_INS, SMALL_TALK, STRAYS, TAKEN_BACK, TEMPERS
from data_gen.world.renaming import made_up, renamed
from data_gen.world.style_table import STYLES
from data_gen.world.user import write_message

PERSONALITIES = 60
MAX_STYLES = 4  # settings that a reply meets by chance
RENAMED = 0.8  # share of the facts' words
MADE_UP = 0.6  # share of made-up words among the new names


def base_dialogues(count: int, turns: int, replies: int, seed: int = 0) -> Iterator[Conversation]:
    """`count` dialogues of `turns` turns, each of which has `replies` replies; the dialogue goes on from the first.
    Equal arguments give equal dialogues."""
    personas = scripted_personas("train", count, PERSONALITIES, seed, pairings=1)
    for row, persona in enumerate(personas):
        yield _dialogue(persona, turns, replies, random.Random(f"base text {seed} {row}"))


def _dialogue(persona: Persona, turns: int, replies: int, draws: random.Random) -> Conversation:
    names = _new_names(persona, draws)
    nodes: list[Node] = []
    talk: list[Message] = []  # in the words of the facts, which the user goes by
    parent = None
    for turn in range(1, turns + 1):
        talk.append(Message(role="user", content=write_message(persona, talk, 0)))
        user = Node(id=f"u{turn}", parent=parent, role="user", text=renamed(talk[-1].content, names))
        nodes.append(user)
        drawn = dict(_reply(persona, talk, names, draws) for _ in range(replies))
        for row, text in enumerate(drawn):
            nodes.append(Node(id=f"a{turn}.{row}", parent=user.id, role="assistant", text=text, condition="plain"))
        talk.append(Message(role="assistant", content=next(iter(drawn.values()))))
        parent = f"a{turn}.0"
    path = [node.id for node in nodes if node.role == "user" or node.id.endswith(".0")]
    return Conversation(id=f"base-{persona.id}", nodes=tuple(nodes), path=tuple(path))


def _reply(
    persona: Persona, talk: Sequence[Message], names: Mapping[str, str], draws: random.Random
) -> tuple[str, str]:
    """About two words of the latest message, and perhaps one of an earlier fact, in a style drawn at random: with the
    new names, and as it would be without."""
    styles = [style.id for style in draws.sample(STYLES, draws.randint(0, MAX_STYLES))]
    topical = topics(persona, talk)
    topic = draws.choice(topical)
    known = shown_facts(persona, talk)
    shown = [fact for fact in facts_of(persona) if fact.id in known and fact not in topical]
    said = _said(topic, talk[-1].content)
    name = _name(topic, talk[-1:])
    others = [word for word in said if stem(word) not in topic.name_stems]
    about = {
        "topic": name,
        "other": draws.choice(others or said),
        "older": _name(draws.choice(shown), talk) if shown else name,
    }
    if not shown:
        styles = [id for id in styles if id != "memory.recalls"]
    key = draws.random()
    new = {field: names.get(word, word) for field, word in about.items()}
    return composed(new, styles, "train", (key,)), composed(about, styles, "train", (key,))


def _said(fact: Fact, message: str) -> list[str]:
    """The words of a fact's forms that the message has, in order, without those of grammar."""
    own = _words_of(fact)
    return [word for word in words(message) if word in own or stem(word) in fact.name_stems]


@functools.cache
def _words_of(fact: Fact) -> frozenset[str]:
    """The words of the fact's forms that users say of nothing else."""
    found = {word for form in fact.forms for word in words(form) if len(word) > 3}
    return frozenset(found - FUNCTION_WORDS - _phrase_words())


@functools.cache
def _phrase_words() -> frozenset[str]:
    """The words of all that users say besides facts."""
    moods = (text for mood in TEMPERS for text in (*mood.greetings, *mood.pleased, *mood.even, *mood.cool))
    faults = (text for texts in (*FAULTS.values(), *CORRECTIONS.values()) for text in texts)
    styles = (text for style in STYLES for text in (*style.slights, *style.phrases))
    said = itertools.chain(SMALL_TALK, LEAD_INS, STRAYS, TAKEN_BACK, moods, faults, styles)
    return frozenset(word for text in said for word in words(expand_contractions(text)))


def _name(fact: Fact, talk: Sequence[Message]) -> str:
    said = [word for message in talk if message.role == "user" for word in words(message.content)]
    return next(word for word in said if stem(word) in fact.name_stems)


@functools.cache
def _all_words() -> tuple[str, ...]:
    return tuple(sorted(frozenset().union(*map(_words_of, bank("train")))))


def _new_names(persona: Persona, draws: random.Random) -> dict[str, str]:
    """New names for most of the words of the persona's facts."""
    names = {}
    for fact in facts_of(persona):
        for word in sorted(_words_of(fact)):
            if draws.random() < RENAMED:
                names[word] = made_up(draws) if draws.random() < MADE_UP else draws.choice(_all_words())
    return names
