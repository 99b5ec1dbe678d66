"""Scripted personas: profiles of facts paired with personalities of style settings.

Train and benchmark personas draw their facts from two banks that share nothing. Their personalities differ by
construction: one pair of style settings in five is held out, no training personality contains a held-out pair, every
benchmark personality contains at least two. So the benchmark tests styles that occur in training in combinations that
do not. One trait in five at most is one that a plain reply meets without knowing the user (`style_table.PASSIVE`).
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Persona
from data_gen.seeds import draw, number
from data_gen.world.events import CORRECTS, Kind, occasion_item, wanders
from data_gen.world.facts import SPLITS, Fact, Split, profile_bank, renamed_fact
from data_gen.world.style import Style
from data_gen.world.style_table import AXES, PASSIVE, STYLES
from data_gen.world.styles import compatible

_ATTEMPTS = 2_000  # draws without a new personality after which the combinations count as used up
_CHOICES = 12  # personalities of which the one with the least used settings is taken
_CHANGE = 6  # turn in which a user changes a preference
_OCCASIONS, _NEUTRAL = (2, 3, 4), 5  # turns of a question and of a favour; turn from which answers are to be plain
_PASSIVE_SHARE = 5  # one passive trait in so many, at least one
MAX_FACTS = 12  # one per slot


@dataclass(frozen=True)
class Size:
    """How much there is to a persona: least and most facts and traits. `surprises` is the share of personalities that
    change a preference, that of others that correct, and that of profiles that go off topic, evenly spread; `renamed`
    is the share of profiles whose facts have made-up words (`facts.renamed_fact`); `restraint` is that of profiles
    whose user has turns in which a reply is not to be about it (`occasions`), evenly spread."""

    facts: tuple[int, int]
    traits: tuple[int, int]
    surprises: float
    renamed: float = 0.0
    restraint: float = 0.0


SIZES: Mapping[Split, Size] = {"train": Size((6, 12), (4, 10), 0.1), "benchmark": Size((6, 12), (8, 10), 0.0)}


def scripted_personas(
    split: Split, profiles: int, personalities: int, seed: int, pairings: int | None = None, size: Size | None = None
) -> list[Persona]:
    """Personas of one split; equal arguments give equal personas.

    `pairings` is the number of different personalities drawn at random for each profile; None crosses every profile
    with every personality, as the benchmark's two-way bootstrap needs. `size` is that of `SIZES` by default. Personas
    of the two splits share no fact and no combination of style settings, whatever the seeds. Raises InputError for an
    unknown split, a count below 1, a size out of bounds, more personalities than there are combinations, `pairings`
    above `personalities`, or `pairings` for the benchmark.
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
    size = _checked(size or SIZES[split])
    styles = list(itertools.islice(_personalities(split, seed, size.traits), personalities))
    if len(styles) < personalities:
        raise InputError(
            f"personalities is {personalities}, but the {split} split has only {len(styles)} for seed {seed}"
        )
    personas = []
    traits = list(_with_surprises(split, seed, styles, size.surprises))
    for row, facts in enumerate(itertools.islice(_profiles(split, seed, size.facts), profiles)):
        columns = list(range(personalities))
        if pairings is not None:
            columns = sorted(random.Random(f"pairing {split} {seed} {row}").sample(columns, pairings))
        if number("renamed", split, seed, row) % 1_000 < 1_000 * size.renamed:
            facts = tuple(renamed_fact(fact, row) for fact in facts)
        items = (*(fact.item() for fact in facts), *_events(row, size))
        personas += [_persona(split, row, items, column, traits[column]) for column in columns]
    return personas


def _checked(size: Size) -> Size:
    for name, (low, high), most in (("facts", size.facts, MAX_FACTS), ("traits", size.traits, len(AXES))):
        if not 1 <= low <= high <= most:
            raise InputError(
                f"{name} is {low} to {high}, expected a range within 1 to {most}; set config.personas.min_{name} and "
                f"max_{name} (with benchmark_ before for held-out traits)"
            )
    if not 0 <= size.surprises <= 0.25:
        raise InputError(f"surprises is {size.surprises}, expected 0 to 0.25; lower config.personas.surprises")
    if not 0 <= size.restraint <= 1:
        raise InputError(f"restraint is {size.restraint}, expected 0 to 1; lower config.personas.restraint")
    return size


def _persona(split: Split, row: int, facts: tuple[Item, ...], column: int, traits: tuple[Item, ...]) -> Persona:
    profile, personality = f"{split}-p{row:03d}", f"{split}-s{column:02d}"
    return Persona(
        id=f"{profile}-s{column:02d}",
        profile=profile,
        personality=personality,
        facts=facts,
        traits=traits,
    )


def _due(row: int, share: float, offset: int) -> bool:
    """Whether a kind of surprise falls on this row: on a `share` of them, evenly spread; another `offset`, other
    rows."""
    return share > 0 and row % round(1 / share) == offset


def _events(row: int, size: Size) -> tuple[Item, ...]:
    """The events of a profile: on some the user goes off topic in turn 3, 4 or 5, on some it has turns in which a reply
    is not to be about it."""
    detour = 3 + row % 3 if _due(row, size.surprises, 1) else None
    found = () if detour is None else (wanders(detour),)
    return (*found, *_occasions(row, size.restraint, detour))


def _occasions(row: int, share: float, detour: int | None) -> tuple[Item, ...]:
    """The items of a profile whose user asks a question of fact in one turn and for somebody else in another, neither
    of them that of the `detour`; every second such user wishes for plain answers later on."""
    due = int(share * (row + 1) + 1e-9)
    if due == int(share * row + 1e-9):
        return ()
    free = [turn for turn in _OCCASIONS if turn != detour]
    found: list[tuple[Kind, int]] = [("asks", free[due % len(free)]), ("other", free[(due + 1) % len(free)])]
    if due % 2:
        found.append(("neutral", _NEUTRAL))
    return tuple(occasion_item(kind, turn) for kind, turn in found)


def _with_surprises(
    split: Split, seed: int, personalities: Sequence[tuple[Style, ...]], share: float
) -> Iterator[tuple[Item, ...]]:
    """The traits of each personality as items, with the surprises that fall on some: a `share` corrects, and as many of
    the others change a preference; where no other setting fits a personality, the next one changes in its place."""
    owed = 0.0
    for row, styles in enumerate(personalities):
        items = tuple(style.item() for style in styles)
        owed += share
        if _due(row, share, 2):
            yield (*items, CORRECTS)
        elif owed + 1e-9 >= 1 and (changes := _changes(split, styles)):
            owed -= 1
            new = draw(changes, "change", split, seed, row)
            yield (*items, Item(id=f"{new.id}@{_CHANGE}", text=f"Since turn {_CHANGE}: {new.text}"))
        else:
            yield items


def _changes(split: Split, styles: tuple[Style, ...]) -> list[Style]:
    """The settings that could take the place of one of a personality's, preferably such that a plain reply misses."""
    changes = []
    for style in styles:
        rest = tuple(other for other in styles if other is not style)
        others = (new for new in STYLES if new.axis == style.axis and new is not style)
        changes += [new for new in others if in_split((*rest, new), split)]
    return [new for new in changes if new.id not in PASSIVE] or changes


def _profiles(split: Split, seed: int, facts: tuple[int, int]) -> Iterator[tuple[Fact, ...]]:
    """Different profiles without end: some slots, one fact from each."""
    rng = random.Random(f"profiles {split} {seed}")
    slots: dict[str, list[Fact]] = {}
    for fact in profile_bank(split):
        slots.setdefault(fact.slot, []).append(fact)
    seen = set()
    while True:
        chosen = rng.sample(sorted(slots), rng.randint(*facts))
        drawn = tuple(rng.choice(slots[slot]) for slot in chosen)
        if frozenset(drawn) not in seen:
            seen.add(frozenset(drawn))
            yield drawn


def _personalities(split: Split, seed: int, traits: tuple[int, int]) -> Iterator[tuple[Style, ...]]:
    """Different combinations of style settings of the split. Each is, of several draws, the one whose settings were
    used least so far, so that all settings occur about equally often. Ends when no new combination is found."""
    rng = random.Random(f"personalities {split} {seed}")
    used: Counter[str] = Counter()
    seen: set[frozenset[str]] = set()
    while True:
        found: list[tuple[Style, ...]] = []
        count = rng.randint(*traits)
        for _ in range(_ATTEMPTS):
            drawn = _combination(split, count, used, rng)
            if drawn is not None and frozenset(style.id for style in drawn) not in seen:
                found.append(drawn)
            if len(found) == _CHOICES:
                break
        if not found:
            return
        best = min(found, key=lambda styles: sum(used[style.id] ** 2 for style in styles))
        used.update(style.id for style in best)
        seen.add(frozenset(style.id for style in best))
        yield best


def _combination(split: Split, count: int, used: Counter[str], rng: random.Random) -> tuple[Style, ...] | None:
    """`count` settings that go together, added one by one, rarely used ones rather first; None if the draw came to a
    dead end."""
    drawn: tuple[Style, ...] = ()
    spread = 1 + max(used.values(), default=0)
    for style in sorted(STYLES, key=lambda style: used[style.id] + spread * rng.random()):
        fits = all(compatible(style, other) and (split == "benchmark" or not held_out(style, other)) for other in drawn)
        if fits and _passives((*drawn, style), count):
            drawn = (*drawn, style)
        if len(drawn) == count:
            return drawn if in_split(drawn, split) else None
    return None


def _passives(styles: tuple[Style, ...], count: int) -> bool:
    """Whether few enough of a personality's `count` settings are passive."""
    return sum(style.id in PASSIVE for style in styles) <= max(1, count // _PASSIVE_SHARE)


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
