"""Scripted personas: profiles of facts paired with personalities of style settings.

Train and benchmark personas draw their facts from two banks that share nothing. Their personalities differ by
construction: one pair of style settings in five is held out, no training personality contains a held-out pair, every
benchmark personality contains at least two. So the benchmark tests styles that occur in training in combinations that
do not.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Persona
from data_gen.seeds import number
from data_gen.world.facts import SPLITS, Fact, Split, bank
from data_gen.world.styles import STYLES, Style, compatible

FACTS_PER_PROFILE = (8, 9, 10)
STYLES_PER_PERSONALITY = 4
_ATTEMPTS = 20_000  # draws without a new personality after which the combinations count as used up


def scripted_personas(
    split: Split, profiles: int, personalities: int, seed: int, pairings: int | None = None
) -> list[Persona]:
    """Personas of one split; equal arguments give equal personas.

    `pairings` is the number of different personalities drawn at random for each profile; None crosses every profile
    with every personality, as the benchmark's two-way bootstrap needs. Personas of the two splits share no fact and no
    combination of style settings, whatever the seeds. Raises InputError for an unknown split, a count
    below 1, more personalities than there are combinations, `pairings` above `personalities`, or `pairings` for the
    benchmark.
    """
    if split not in SPLITS:
        raise InputError(f"split is '{split}', expected one of {', '.join(SPLITS)}")
    for name, value in (("profiles", profiles), ("personalities", personalities), ("pairings", pairings)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, expected at least 1")
    if pairings is not None and pairings > personalities:
        raise InputError(f"pairings is {pairings}, expected at most the number of personalities, {personalities}")
    if pairings is not None and split == "benchmark":
        raise InputError(f"pairings is {pairings}, but the benchmark crosses all personalities: leave it at None")
    styles = list(itertools.islice(_personalities(split, seed), personalities))
    if len(styles) < personalities:
        raise InputError(
            f"personalities is {personalities}, but the {split} split has only {len(styles)} for seed {seed}"
        )
    personas = []
    for row, facts in enumerate(itertools.islice(_profiles(split, seed), profiles)):
        columns = list(range(personalities))
        if pairings is not None:
            columns = sorted(random.Random(f"pairing {split} {seed} {row}").sample(columns, pairings))
        personas += [_persona(split, row, facts, column, styles[column]) for column in columns]
    return personas


def _persona(split: Split, row: int, facts: tuple[Fact, ...], column: int, styles: tuple[Style, ...]) -> Persona:
    profile, personality = f"{split}-p{row:03d}", f"{split}-s{column:02d}"
    return Persona(
        id=f"{profile}-s{column:02d}",
        profile=profile,
        personality=personality,
        facts=tuple(fact.item() for fact in facts),
        traits=tuple(style.item() for style in styles),
    )


def _profiles(split: Split, seed: int) -> Iterator[tuple[Fact, ...]]:
    """Different profiles without end: eight to ten slots, one fact from each."""
    rng = random.Random(f"profiles {split} {seed}")
    slots: dict[str, list[Fact]] = {}
    for fact in bank(split):
        slots.setdefault(fact.slot, []).append(fact)
    seen = set()
    while True:
        chosen = rng.sample(sorted(slots), rng.choice(FACTS_PER_PROFILE))
        facts = tuple(rng.choice(slots[slot]) for slot in chosen)
        if frozenset(facts) not in seen:
            seen.add(frozenset(facts))
            yield facts


def _personalities(split: Split, seed: int) -> Iterator[tuple[Style, ...]]:
    """Different combinations of style settings of the split. Each is, of several draws, the one whose settings were
    used least so far, so that all settings occur about equally often. Ends when no new combination is found."""
    rng = random.Random(f"personalities {split} {seed}")
    used: Counter[str] = Counter()
    seen: set[frozenset[str]] = set()
    while True:
        found: list[tuple[Style, ...]] = []
        for _ in range(_ATTEMPTS):
            drawn = tuple(rng.sample(STYLES, STYLES_PER_PERSONALITY))
            if frozenset(style.id for style in drawn) not in seen and in_split(drawn, split):
                found.append(drawn)
            if len(found) == 32:
                break
        if not found:
            return
        best = min(found, key=lambda styles: sum(used[style.id] ** 2 for style in styles))
        used.update(style.id for style in best)
        seen.add(frozenset(style.id for style in best))
        yield best


def held_out(first: Style, second: Style) -> bool:
    """Whether this pair of settings is kept out of training: one in five, determined by the ids."""
    return number("held out", *sorted((first.id, second.id))) % 5 == 0


def in_split(styles: tuple[Style, ...], split: Split) -> bool:
    """Whether a combination of settings is possible for one user and belongs to the split."""
    pairs = list(itertools.combinations(styles, 2))
    if not all(compatible(first, second) for first, second in pairs):
        return False
    kept = sum(held_out(first, second) for first, second in pairs)
    return kept >= 2 if split == "benchmark" else kept == 0
