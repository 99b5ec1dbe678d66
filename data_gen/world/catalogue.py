"""All that a scripted user can turn out to be, by id, and how right claims about a user are.

The catalogue is the same for every user: an answer that names its items gives away nothing about the user but what the
model has learned. Ids are those of the banks: a renamed fact ("pet.mare~17") and a setting with a turn
("question.none@6") are claimed as "pet.mare" and "question.none".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aloe_jax.tree.probe import MAX_ITEM, Claim
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Revealed
from data_gen.world.facts import RENAMED, SPLITS, by_id, facts_of, named, profile_bank, user_turns
from data_gen.world.inducer import of_this_world, shown
from data_gen.world.style_table import STYLES
from data_gen.world.styles import BY_ID, styles_in


@functools.cache
def catalogue() -> tuple[str, ...]:
    """The ids of all style settings and of the facts of both banks that a profile may have."""
    return (*(style.id for style in STYLES), *(fact.id for split in SPLITS for fact in profile_bank(split)))


def texts() -> dict[str, str]:
    """The items of the catalogue as sentences, by id."""
    return {item: (BY_ID.get(item) or by_id()[item]).text for item in catalogue()}


def bank_id(id: str) -> str:
    """The id of an item of a persona as the catalogue has it."""
    return id.partition(RENAMED)[0].partition("@")[0]


def claims_of(persona: Persona, revealed: Iterable[Revealed]) -> tuple[Claim, ...]:
    """What an inducer has found, as claims: ids of the catalogue, or of a user that is not of this world the sentences
    of its items, cut where they are longer than a claim's."""
    texts = {item.id: item.text[:MAX_ITEM] for item in (*persona.facts, *persona.traits)}
    ours = of_this_world(persona)
    return tuple(Claim(bank_id(each.id) if ours else texts[each.id], each.turn) for each in revealed)


def shown_claims(persona: Persona, dialogue: Sequence[Message]) -> tuple[Claim, ...]:
    """What the user has shown in `dialogue` and still holds, with the turn that showed it first, sorted by turn."""
    return claims_of(persona, shown(persona, dialogue))


@dataclass(frozen=True)
class Correctness:
    """How right claims are. Precision is 1 without a claim, recall 1 with nothing shown, and `f1` is
    2 right / (claims + shown), 1 if both are 0. `unfounded` counts the claims whose turn does not show their item."""

    precision: float
    recall: float
    f1: float
    unfounded: int


def correctness(claims: Sequence[Claim], persona: Persona, dialogue: Sequence[Message]) -> Correctness:
    """Of claims about different items, against what the user has shown in `dialogue`. What it has given up since is
    wrong, though not unfounded."""
    found, true = {claim.item for claim in claims}, {claim.item for claim in shown_claims(persona, dialogue)}
    right = len(found & true)
    return Correctness(
        precision=right / len(found) if found else 1.0,
        recall=right / len(true) if true else 1.0,
        f1=2 * right / (len(found) + len(true)) if found or true else 1.0,
        unfounded=sum(not _shown_in(claim, persona, dialogue) for claim in claims),
    )


def _shown_in(claim: Claim, persona: Persona, dialogue: Sequence[Message]) -> bool:
    """Whether the message of the claim's turn shows its item, whoever wrote it and however often it was shown."""
    texts = user_turns(dialogue)
    if claim.turn > len(texts):
        return False
    text = texts[claim.turn - 1]
    facts = [fact for fact in facts_of(persona) if bank_id(fact.id) == claim.item]
    facts += [by_id()[claim.item]] if claim.item in by_id() and not facts else []
    return claim.item in styles_in(text) or bool(named(facts, text))
