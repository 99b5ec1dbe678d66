"""How alike the personas of training and benchmark are: shared ids, shared runs of words, nearest entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np

from aloe_jax.tree.schema import Item, Persona
from data_gen.personas.encoder import Encoder
from data_gen.personas.filter import distribution
from data_gen.text import word_grams

Factor = Literal["profiles", "personalities"]
# Words in a row; 13 is the usual bound, 8 the one that the paper's pools were measured with.
LONG_GRAM, SHORT_GRAM = 13, 8
WORST = 5  # pairs named in the report


class SharedGram(TypedDict):
    """A benchmark entry and a training entry, by id, with a run of words that both have."""

    benchmark: str
    train: str
    gram: str


class GramOverlap(TypedDict):
    """`overlapping` benchmark entries share a run of words with training; `pairs` are the first of them."""

    overlapping: int
    pairs: list[SharedGram]


class NearPair(TypedDict):
    """A benchmark entry and its nearest training entry, by id, with the cosine between them."""

    benchmark: str
    train: str
    similarity: float


class Nearness(TypedDict):
    """The distribution of the benchmark entries' largest cosines to training entries, and the nearest pairs."""

    distribution: dict[str, float]
    pairs: list[NearPair]


class FactorOverlap(TypedDict):
    """What the two sides share of one factor; `train` and `benchmark` are numbers of entries."""

    train: int
    benchmark: int
    shared_ids: list[str]
    grams_13: GramOverlap
    grams_8: GramOverlap
    cosine: Nearness


class Contamination(TypedDict, total=False):
    """The overlap by factor."""

    profiles: FactorOverlap
    personalities: FactorOverlap


class _Half(NamedTuple):
    """One factor of a persona."""

    id: str
    items: tuple[Item, ...]


def contamination(train: Sequence[Persona], benchmark: Sequence[Persona], encoder: Encoder) -> Contamination:
    """The overlap of the two sides, by factor; a factor that a side lacks is left out. The text of a factor's entry is
    the paragraph of its items; an id that occurs in several personas counts once."""
    found: Contamination = {}
    factors: tuple[Factor, ...] = ("profiles", "personalities")
    for factor in factors:
        own, other = (_texts(side, factor) for side in (train, benchmark))
        if own and other:
            found[factor] = {
                "train": len(own),
                "benchmark": len(other),
                "shared_ids": sorted(own.keys() & other.keys()),
                "grams_13": _gram_overlap(own, other, LONG_GRAM),
                "grams_8": _gram_overlap(own, other, SHORT_GRAM),
                "cosine": _nearness(own, other, encoder),
            }
    return found


def _texts(personas: Sequence[Persona], factor: Factor) -> dict[str, str]:
    """The paragraph of each entry that has items, by id."""
    halves = (
        _Half(persona.profile, persona.facts) if factor == "profiles" else _Half(persona.personality, persona.traits)
        for persona in personas
    )
    texts = {half.id: " ".join(item.text for item in half.items) for half in halves}
    return {key: text for key, text in texts.items() if text}


def _gram_overlap(train: Mapping[str, str], benchmark: Mapping[str, str], size: int) -> GramOverlap:
    owner: dict[tuple[str, ...], str] = {}
    for name, text in train.items():
        for gram in word_grams(text, size):
            owner.setdefault(gram, name)
    pairs: list[SharedGram] = []
    for name, text in benchmark.items():
        shared = [gram for gram in word_grams(text, size) if gram in owner]
        if shared:
            pairs.append({"benchmark": name, "train": owner[shared[0]], "gram": " ".join(shared[0])})
    return {"overlapping": len(pairs), "pairs": pairs[:WORST]}


def _nearness(train: Mapping[str, str], benchmark: Mapping[str, str], encoder: Encoder) -> Nearness:
    cosines = encoder.encode(list(benchmark.values())) @ encoder.encode(list(train.values())).T
    largest, names = cosines.max(axis=1), list(train)
    pairs: list[NearPair] = [
        {"benchmark": name, "train": names[int(row.argmax())], "similarity": round(float(row.max()), 4)}
        for name, row in zip(benchmark, cosines, strict=True)
    ]
    worst = np.argsort(-largest, kind="stable")[:WORST]
    return {"distribution": distribution(largest), "pairs": [pairs[row] for row in worst]}
