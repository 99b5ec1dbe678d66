"""`config.conversations` and `config.tree`: how many conversations grow, and in what shape."""

from __future__ import annotations

from dataclasses import dataclass, fields

from aloe_jax.settings import section, setting
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
class MixSettings:
    """How many candidate replies of each kind a turn has; a reply's `condition` is the name of its kind. The path goes
    on from hinted and plain ones, and the judge decides every pair, whatever the kinds."""

    hinted: int = setting(1, "by the teacher, told what the user has shown so far", minimum=0)
    plain: int = setting(1, "by the responder, from the dialogue alone", minimum=0)
    teacher_plain: int = setting(0, "by the teacher, from the dialogue alone", minimum=0)
    other_persona: int = setting(
        0, "by the teacher, told the facts that the user has shown with the traits of another persona", minimum=0
    )
    repetition: int = setting(0, "an earlier reply of the path once more, in part; none in the first turn", minimum=0)
    off_topic: int = setting(
        0, "by the teacher, told the traits shown, in answer to another user's first message", minimum=0
    )
    leak: int = setting(
        0, "by the teacher, asked to give away a fact that the user has not shown; none when all have shown", minimum=0
    )

    def total(self, *conditions: str) -> int:
        """The number of candidates per turn, of these kinds or of all."""
        return sum(getattr(self, name) for name in conditions or CONDITIONS)


CONDITIONS = tuple(field.name for field in fields(MixSettings))
CONTINUED = ("hinted", "plain")  # the kinds that a path goes on from
TAUGHT = ("hinted", "teacher_plain", "other_persona", "off_topic", "leak")  # the kinds that the teacher writes


def called_roles(mix: MixSettings) -> tuple[str, ...]:
    """The roles that growing trees with such candidates needs."""
    writers = (("teacher", mix.total(*TAUGHT)), ("responder", mix.plain))
    return ("user", "inducer", "judge", *(role for role, count in writers if count))


@dataclass(frozen=True)
class ConversationSettings:
    """How many conversations grow, and what a turn of them has."""

    source: str = setting("", "a trees.jsonl to train on instead of growing trees (see `aloe convert`)")
    trees: int = setting(3310, "conversation trees, one per persona", minimum=1)
    turns: int = setting(10, "user turns of each", minimum=1)
    mix: MixSettings = section(MixSettings, "candidate replies per turn, by kind", took=("hinted", "plain"))
    probes: float = setting(
        0.0,
        "share of the main path's replies after which the model is asked what it has learned about the user, with the "
        "inducer's belief as the answer",
        minimum=0,
        maximum=1,
    )
    min_margin: float = setting(0.1, "judge's margin (2p - 1) from which two candidates become a preference")
    concurrency: int = setting(64, "trees that grow at the same time", minimum=1, decides=False)
