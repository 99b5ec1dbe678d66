"""From pools to personas: which entries are held out for the benchmark, and who is paired with whom."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from jaxtyping import Float
from numpy import ndarray

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Persona
from data_gen.personas.contamination import SHORT_GRAM
from data_gen.personas.entry import Entry
from data_gen.personas.filter import nearest_neighbours
from data_gen.text import word_grams

SHORTLIST = 3  # candidates per entry held out


def split(
    entries: Sequence[Entry], vectors: Float[ndarray, "N D"], held_out: int, seed: int
) -> tuple[list[Entry], list[Entry]]:
    """(train, benchmark): `held_out` entries for the benchmark, the others for training, both in the given order.

    Candidates are the three times `held_out` entries that are farthest from their nearest neighbour; entries that share
    no word 8-gram with another one come before those that do. The first one is drawn from the candidates by `seed`.
    Each further one is the candidate whose nearest chosen entry is farthest (greedy k-centre), so that the benchmark is
    varied and no cluster of outliers. InputError unless 0 <= held_out < N.
    """
    if not 0 <= held_out < len(entries):
        raise InputError(f"held_out is {held_out}, expected 0 to {len(entries) - 1}, fewer than there are entries")
    if held_out == 0:
        return list(entries), []
    nearest, shared = nearest_neighbours(vectors), _shares_grams(entries)
    order = sorted(range(len(entries)), key=lambda row: (shared[row], nearest[row]))
    candidates = order[: SHORTLIST * held_out]
    chosen = [random.Random(f"held out {seed}").choice(candidates)]
    taken = set(chosen)
    while len(chosen) < held_out:
        left = [row for row in candidates if row not in taken]
        cosines = (vectors[left] @ vectors[chosen].T).max(axis=1)
        chosen.append(left[int(cosines.argmin())])
        taken.add(chosen[-1])
    train = [entry for row, entry in enumerate(entries) if row not in taken]
    return train, [entries[row] for row in sorted(chosen)]


def _shares_grams(entries: Sequence[Entry]) -> list[bool]:
    """Whether each entry shares a word 8-gram with another one."""
    grams = [set(word_grams(entry.text, SHORT_GRAM)) for entry in entries]
    owners: dict[tuple[str, ...], int] = {}
    for own in grams:
        for gram in own:
            owners[gram] = owners.get(gram, 0) + 1
    return [any(owners[gram] > 1 for gram in own) for own in grams]


def personas(
    profiles: Sequence[Entry], personalities: Sequence[Entry], pairings: int | None, seed: int
) -> list[Persona]:
    """Each profile with `pairings` different personalities, drawn at random from those used least so far, so that all
    are used about equally often. None crosses every profile with every personality, as the benchmark's two-way
    bootstrap needs.

    Facts and traits are numbered `fact1`, `trait1`, ...; an id is made of those of the two entries. The personalities
    of a profile do not depend on the profiles after it. InputError unless 1 <= pairings <= the number of personalities.
    """
    if pairings is not None and not 1 <= pairings <= len(personalities):
        raise InputError(f"pairings is {pairings}, expected 1 to the number of personalities, {len(personalities)}")
    rng, used = random.Random(f"pairings {seed}"), [0] * len(personalities)
    traits = [_items("trait", personality) for personality in personalities]  # shared, as there may be many personas
    found = []
    for profile in profiles:
        facts = _items("fact", profile)
        columns = list(range(len(personalities)))
        if pairings is not None:
            rng.shuffle(columns)
            columns = sorted(sorted(columns, key=used.__getitem__)[:pairings])
        for column in columns:
            used[column] += 1
            names = {"profile": profile.id, "personality": personalities[column].id}
            found.append(Persona(id="-".join(names.values()), **names, facts=facts, traits=traits[column]))
    return found


def spread(found: Sequence[Persona], seed: int) -> list[Persona]:
    """The personas in an order whose every beginning uses all profiles and personalities about equally often, drawn by
    `seed`.

    It goes round the profiles in a random order; each gives, of its personas that are left, the one whose personality
    was used least so far.
    """
    rng = random.Random(f"order {seed}")
    left: dict[str, list[Persona]] = {}
    for persona in rng.sample(found, len(found)):
        left.setdefault(persona.profile, []).append(persona)
    used: Counter[str] = Counter()
    ordered: list[Persona] = []
    while left:
        for profile in list(left):
            mine = left[profile]
            best = min(mine, key=lambda persona: used[persona.personality])
            mine.remove(best)
            used[best.personality] += 1
            ordered.append(best)
            if not mine:
                del left[profile]
    return ordered


def _items(name: str, entry: Entry) -> tuple[Item, ...]:
    """The items of an entry, numbered."""
    return tuple(Item(id=f"{name}{number}", text=text) for number, text in enumerate(entry.items, start=1))
