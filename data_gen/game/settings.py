"""`config.conversations` and `config.tree`: how many conversations grow, and in what shape."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting
from data_gen.game.guards import NAMES


@dataclass(frozen=True)
class TreeSettings:
    """The shape of a tree."""

    expand: int = setting(1, "replies per turn that are continued; 1: the paper's single path", minimum=1)
    depth: int = setting(1, "turns that the replies beside the main path are continued for", minimum=1)
    discount: float = setting(
        0.0,
        "weight of what happens a turn later in a reply's value, over `depth` turns; 0: its own score alone",
        minimum=0,
    )
    prefer: str = setting(
        "judge",
        "what tells two replies apart: the judge in both orders, or their backed-up value",
        choices=("judge", "value"),
    )
    min_turns: int = setting(5, "a conversation that ends before does not count", minimum=1)
    attempts: int = setting(4, "maximum draws of a text that guards turn down", minimum=1)
    candidates: int = setting(3, "maximum conversations begun per conversation wanted", minimum=1)
    guards: tuple[str, ...] = setting(NAMES, "see docs/data_generation.md; empty: none", choices=NAMES)


@dataclass(frozen=True)
class ConversationSettings:
    """How many conversations grow, and what a turn of them has."""

    source: str = setting("", "a trees.jsonl to train on instead of growing trees (see `aloe convert`)")
    trees: int = setting(3310, "conversation trees, one per persona", minimum=1)
    turns: int = setting(10, "user turns of each", minimum=1)
    hinted: int = setting(
        1, "candidate replies per turn whose responder is told what the user has shown so far", minimum=0
    )
    plain: int = setting(1, "candidate replies per turn whose responder gets the dialogue alone", minimum=0)
    min_margin: float = setting(0.1, "judge's margin (2p - 1) from which two candidates become a preference")
    concurrency: int = setting(64, "trees that grow at the same time", minimum=1, decides=False)
