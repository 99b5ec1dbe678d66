"""Facts of scripted users: the banks, and the rule that decides whether a text mentions a fact.

`facts_train.jsonl` and `facts_benchmark.jsonl` have one fact per line: `id` ("slot.value"), `text` (the sentence in the
hint of a responder), `topic` (a noun phrase that fits after "my" or "your"), `names` (words that give the fact away),
`related` (words that belong to its topic) and `forms` (sentences in which a user mentions it). The two banks share no
value, no name and no form. A profile has at most one fact per slot. The slot "aside" is of no profile: a user that is
off topic in a turn (`events`) speaks of one of its entries.

An id "slot.value~17" is the fact with the words of its forms renamed by made-up words, drawn with 17: there are as many
of them as one likes, so that a model cannot learn them by heart and has to read what the user said (`renamed_fact`).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Literal

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Message, Persona, Record, parse
from data_gen.text import FUNCTION_WORDS, stem, stem_set, words
from data_gen.world.events import EVENT
from data_gen.world.renaming import made_up, renamed

Split = Literal["train", "benchmark"]
SPLITS: tuple[Split, ...] = ("train", "benchmark")

# Words that are close to any fact of a slot: an answer to a message about a mare may say "animal".
SLOT_FIELDS = {
    "job": "job career colleagues boss",
    "family": "family relatives parent child",
    "pet": "animal pet creature",
    "home": "neighbourhood rooms building house",
    "food": "meal cooking recipe tasty",
    "hobby": "hobby pastime craft",
    "sport": "sport exercise training muscles",
    "music": "music songs instrument",
    "plan": "dream plan future",
    "health": "health body symptoms",
    "trouble": "problem annoying worry",
    "learning": "lesson learning skill practice",
    "aside": "moment surprise scene",
    "errand": "card line words",
    "question": "answer number",
}
RENAMED = "~"  # before the number with which a fact's new names are drawn
ASIDE = "aside"  # the slot of what a user says when it is off topic; no profile has it


class Fact(Record):
    """An entry of a bank. Every form has at least one of the `names`, so that a mention can be recognised."""

    id: str
    text: str
    topic: str
    names: tuple[str, ...]
    related: tuple[str, ...]
    forms: tuple[str, ...]

    @property
    def slot(self) -> str:
        """The subject of the fact (job, pet, ...)."""
        return self.id.split(".")[0]

    @functools.cached_property
    def name_stems(self) -> frozenset[str]:
        """Stems that name the fact; no other fact of the split has them."""
        return frozenset(map(stem, self.names))

    @functools.cached_property
    def related_stems(self) -> frozenset[str]:
        """Stems that belong to the topic without naming the fact: its own and those of its slot."""
        return frozenset(map(stem, (*self.related, *words(SLOT_FIELDS[self.slot]))))

    def item(self) -> Item:
        """The fact as an item of a persona record."""
        return Item(id=self.id, text=self.text)


@functools.cache
def bank(split: Split) -> tuple[Fact, ...]:
    """All facts of one split, in file order."""
    name = f"facts_{split}.jsonl"
    text = resources.files("data_gen.world").joinpath(name).read_text(encoding="utf-8")
    return tuple(parse(Fact, line, f"{name} line {row}") for row, line in enumerate(text.splitlines(), start=1))


@functools.cache
def profile_bank(split: Split) -> tuple[Fact, ...]:
    """The facts of one split that a profile may have."""
    return tuple(fact for fact in bank(split) if fact.slot != ASIDE)


@functools.cache
def asides(split: Split) -> tuple[Fact, ...]:
    """What users of one split talk about when they are off topic."""
    return tuple(fact for fact in bank(split) if fact.slot == ASIDE)


def split_of(persona: Persona) -> Split:
    """The split whose bank has the persona's facts; "train" for one without facts."""
    held_out = bank("benchmark")
    return "benchmark" if any(fact in held_out for fact in facts_of(persona)[:1]) else "train"


@functools.cache
def by_id() -> Mapping[str, Fact]:
    """The facts of both banks by id."""
    return {fact.id: fact for split in SPLITS for fact in bank(split)}


def find_fact(id: str) -> Fact | None:
    """The fact of this id, renamed if the id says so; None if it is of neither bank."""
    of_bank, renaming, number = id.partition(RENAMED)
    found = by_id().get(of_bank)
    return renamed_fact(found, int(number)) if found and renaming and number.isdecimal() else found


@functools.lru_cache(maxsize=4_096)
def renamed_fact(fact: Fact, number: int) -> Fact:
    """The fact with one of its forms, the longer words of which are renamed. One of them is its name and topic, the
    others belong to it, so all that an oracle says about it stands in the user's message."""
    draws = random.Random(f"renamed {fact.id} {number}")
    form = draws.choice(fact.forms)
    name = next(word for word in words(form) if stem(word) in fact.name_stems)
    names = {word: made_up(draws) for word in words(form) if len(word) > 3 and word not in FUNCTION_WORDS}
    names[name] = made_up(draws)
    names |= dict.fromkeys(fact.names, names[name])
    return Fact(
        id=f"{fact.id}{RENAMED}{number}",
        text=renamed(fact.text, names),
        topic=names[name],
        names=(names[name],),
        related=tuple(sorted(set(names.values()) - {names[name]})) or (names[name],),
        forms=(renamed(form, names),),
    )


def facts_of(persona: Persona) -> tuple[Fact, ...]:
    """The bank entries of a stored persona. InputError for an id that is in neither bank."""
    return _facts(tuple(item.id for item in persona.facts if not item.id.startswith(EVENT)), persona.id)


@functools.lru_cache(maxsize=4_096)
def _facts(ids: tuple[str, ...], owner: str) -> tuple[Fact, ...]:
    found = []
    for id in ids:
        fact = find_fact(id)
        if fact is None:
            raise InputError(
                f"persona '{owner}': fact '{id}' is not in the scripted world's banks; "
                "create personas for the scripted roles with the 'personas' stage"
            )
        found.append(fact)
    return tuple(found)


def named(facts: Sequence[Fact], text: str) -> list[Fact]:
    """Those of `facts` that `text` names."""
    said = stem_set(text)
    return [fact for fact in facts if not said.isdisjoint(fact.name_stems)]


def user_turns(dialogue: Sequence[Message]) -> list[str]:
    """Texts of the user messages, first to last."""
    return [message.content for message in dialogue if message.role == "user"]


def shown_facts(persona: Persona, dialogue: Sequence[Message]) -> dict[str, int]:
    """Fact id -> user turn (from 1) that named it first. Only the user's words count, never those of a reply."""
    shown: dict[str, int] = {}
    facts = facts_of(persona)
    for turn, text in enumerate(user_turns(dialogue), start=1):
        for fact in named(facts, text):
            shown.setdefault(fact.id, turn)
    return shown
