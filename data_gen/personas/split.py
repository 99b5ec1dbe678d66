"""From pools to personas: what is held out for the benchmark, how alike the two sides are, and who is paired."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Persona
from data_gen.personas.encoder import Encoder
from data_gen.personas.entry import Entry
from data_gen.personas.filter import distribution, nearest_neighbours
from data_gen.text import word_grams

GRAMS = (13, 8)  # words; 13 is the usual bound, 8 what the paper's own pools were measured with
SHORTLIST = 3  # candidates for each entry held out
WORST = 5  # pairs named in the report


def split(
    entries: Sequence[Entry], vectors: Float[np.ndarray, "N D"], held_out: int, seed: int
) -> tuple[list[Entry], list[Entry]]:
    """(train, benchmark): `held_out` entries for the benchmark, the others for training, both in the given order.

    Candidates are the three times `held_out` entries that are farthest from their nearest neighbour, those that share
    no word 8-gram with another entry before those that do. The first is drawn from them by `seed`; each further one is
    the candidate whose nearest chosen entry is farthest (greedy k-centre), so that the benchmark is varied and not a
    cluster of outliers. InputError unless 0 <= held_out < N.
    """
    if not 0 <= held_out < len(entries):
        raise InputError(f"held_out is {held_out}, expected 0 to {len(entries) - 1}, fewer than there are entries")
    if held_out == 0:
        return list(entries), []
    nearest, shared = nearest_neighbours(vectors), _shares_grams(entries)
    order = sorted(range(len(entries)), key=lambda row: (shared[row], nearest[row]))
    candidates = order[: SHORTLIST * held_out]
    chosen = [random.Random(f"held out {seed}").choice(candidates)]
    while len(chosen) < held_out:
        left = [row for row in candidates if row not in chosen]
        cosines = (vectors[left] @ vectors[chosen].T).max(axis=1)
        chosen.append(left[int(cosines.argmin())])
    train = [entry for row, entry in enumerate(entries) if row not in chosen]
    return train, [entries[row] for row in sorted(chosen)]


def _shares_grams(entries: Sequence[Entry]) -> list[bool]:
    """Whether each entry has a word 8-gram that another one has too."""
    grams = [set(word_grams(entry.text, GRAMS[-1])) for entry in entries]
    owners: dict[tuple[str, ...], int] = {}
    for own in grams:
        for gram in own:
            owners[gram] = owners.get(gram, 0) + 1
    return [any(owners[gram] > 1 for gram in own) for own in grams]


def contamination(train: Sequence[Persona], benchmark: Sequence[Persona], encoder: Encoder) -> dict[str, Any]:
    """How alike the two sides are, for each factor ("profiles", "personalities"); a factor that a side lacks is left
    out. A factor's entry is the paragraph of its items; ids that occur in several personas count once.

    `train`, `benchmark`: numbers of entries; `shared_ids`; `grams_13` and `grams_8`: `overlapping` benchmark entries
    that share such a run of words with a train entry, and `pairs` of {benchmark, train, gram}; `cosine`: the
    `distribution` of each benchmark entry's largest cosine to a train entry, and the worst `pairs` of {benchmark,
    train, similarity}.
    """
    found: dict[str, Any] = {}
    for name, factor, items in (("profiles", "profile", "facts"), ("personalities", "personality", "traits")):
        sides = [
            {getattr(persona, factor): " ".join(item.text for item in getattr(persona, items)) for persona in side}
            for side in (train, benchmark)
        ]
        own, other = ({key: text for key, text in side.items() if text} for side in sides)
        if own and other:
            found[name] = {
                "train": len(own),
                "benchmark": len(other),
                "shared_ids": sorted(own.keys() & other.keys()),
                **{f"grams_{size}": _gram_overlap(own, other, size) for size in GRAMS},
                "cosine": _nearest_pairs(own, other, encoder),
            }
    return found


def _gram_overlap(train: dict[str, str], benchmark: dict[str, str], size: int) -> dict[str, Any]:
    owner: dict[tuple[str, ...], str] = {}
    for name, text in train.items():
        for gram in word_grams(text, size):
            owner.setdefault(gram, name)
    pairs = []
    for name, text in benchmark.items():
        shared = [gram for gram in word_grams(text, size) if gram in owner]
        if shared:
            pairs.append({"benchmark": name, "train": owner[shared[0]], "gram": " ".join(shared[0])})
    return {"overlapping": len(pairs), "pairs": pairs[:WORST]}


def _nearest_pairs(train: dict[str, str], benchmark: dict[str, str], encoder: Encoder) -> dict[str, Any]:
    cosines = encoder.encode(list(benchmark.values())) @ encoder.encode(list(train.values())).T
    largest, names = cosines.max(axis=1), list(train)
    pairs = [
        {"benchmark": name, "train": names[int(row.argmax())], "similarity": round(float(row.max()), 4)}
        for name, row in zip(benchmark, cosines, strict=True)
    ]
    worst = np.argsort(-largest, kind="stable")[:WORST]
    return {"distribution": distribution(largest), "pairs": [pairs[row] for row in worst]}


def personas(
    profiles: Sequence[Entry], personalities: Sequence[Entry], pairings: int | None, seed: int
) -> list[Persona]:
    """Each profile with `pairings` different personalities, drawn at random from those used least so far, so that all
    are used about equally often; None crosses all with all, as the benchmark's two-way bootstrap needs.

    Facts and traits are numbered `fact1`, `trait1`, ...; ids are those of the two entries. A profile's personalities
    do not depend on the profiles after it. InputError unless 1 <= pairings <= the number of personalities.
    """
    if pairings is not None and not 1 <= pairings <= len(personalities):
        raise InputError(f"pairings is {pairings}, expected 1 to the number of personalities, {len(personalities)}")
    rng, used = random.Random(f"pairings {seed}"), [0] * len(personalities)
    found = []
    for profile in profiles:
        columns = list(range(len(personalities)))
        if pairings is not None:
            rng.shuffle(columns)
            columns = sorted(sorted(columns, key=used.__getitem__)[:pairings])
        for column in columns:
            used[column] += 1
            found.append(_persona(profile, personalities[column]))
    return found


def _persona(profile: Entry, personality: Entry) -> Persona:
    return Persona(
        id=f"{profile.id}-{personality.id}",
        profile=profile.id,
        personality=personality.id,
        facts=tuple(Item(id=f"fact{number}", text=text) for number, text in enumerate(profile.items, start=1)),
        traits=tuple(Item(id=f"trait{number}", text=text) for number, text in enumerate(personality.items, start=1)),
    )
