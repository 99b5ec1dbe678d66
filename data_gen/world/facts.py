"""Facts of scripted users: the banks, and the rule that decides whether a text mentions a fact.

`facts_train.jsonl` and `facts_benchmark.jsonl` have one fact per line: `id` ("slot.value"), `text` (the sentence in the
hint of a responder), `topic` (a noun phrase that fits after "my" or "your"), `names` (words that give the fact away),
`related` (words that belong to its topic) and `forms` (sentences in which a user mentions it). The two banks share no
value, no name and no form. A profile has at most one fact per slot.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Literal

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Message, Persona, Record, parse
from data_gen.text import stem, stem_set, words

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
}


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
def by_id() -> Mapping[str, Fact]:
    """The facts of both banks by id."""
    return {fact.id: fact for split in SPLITS for fact in bank(split)}


def facts_of(persona: Persona) -> tuple[Fact, ...]:
    """The bank entries of a stored persona. InputError for an id that is in neither bank."""
    known = by_id()
    for item in persona.facts:
        if item.id not in known:
            raise InputError(
                f"persona '{persona.id}': fact '{item.id}' is not in the scripted world's banks; "
                "create personas for the scripted roles with the 'personas' stage"
            )
    return tuple(known[item.id] for item in persona.facts)


def named(facts: Sequence[Fact], text: str) -> list[Fact]:
    """Those of `facts` that `text` names."""
    found = stem_set(text)
    return [fact for fact in facts if fact.name_stems & found]


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
