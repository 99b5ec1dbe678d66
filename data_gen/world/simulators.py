"""The two scripted users: `A`, which models are usually trained and measured with, and `B`, the held-out one.

They are the same people (facts, traits, what shows a habit) with other words and another temper: B is terse and
impatient, shows its first trait in the second turn only, and gives no new one after a reply that half fits or for two
turns after one that fails. What a message shows is decided by the text alone, so inducer and judge read both alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_gen.world import remarks, remarks_b
from data_gen.world.remarks import Temper
from data_gen.world.style import Style


@dataclass(frozen=True)
class Simulator:
    """How a scripted user speaks, and when it opens up.

    Attributes:
        phrases, slights: by style id; a style that is left out has its own.
        unfit: by style id the tempers that do not fit what a trait makes the user write.
        pleased, cool: scores from which a reply pleases the user, and below which it cools the user.
        miss: score below which the user withholds; a reply beside the topic has at most 2, whatever its style.
        withholds: for how many turns.
        opens: the turn in which the first trait may show.
    """

    name: str
    tempers: Sequence[Temper]
    faults: Mapping[str, Sequence[str]]
    corrections: Mapping[str, Sequence[str]]
    taken_back: Sequence[str]
    strays: Sequence[str]
    too_personal: Sequence[str]
    for_others: Sequence[str]
    plain_wishes: Sequence[str]
    small_talk: Sequence[str]
    lead_ins: Sequence[str]
    phrases: Mapping[str, Sequence[str]]
    slights: Mapping[str, Sequence[str]]
    unfit: Mapping[str, Sequence[str]]
    pleased: float = 4.0
    cool: float = 2.75
    miss: float = 2.25
    withholds: int = 1
    opens: int = 1

    def phrases_of(self, style: Style) -> Sequence[str]:
        """The remarks by which this user shows a setting; none for a habit."""
        return self.phrases.get(style.id, style.phrases)

    def slights_of(self, style: Style) -> Sequence[str]:
        """What this user says to a reply that misses a setting."""
        return self.slights.get(style.id, style.slights)


A = Simulator(
    "A",
    remarks.TEMPERS,
    remarks.FAULTS,
    remarks.CORRECTIONS,
    remarks.TAKEN_BACK,
    remarks.STRAYS,
    remarks.TOO_PERSONAL,
    remarks.FOR_OTHERS,
    remarks.PLAIN_WISHES,
    remarks.SMALL_TALK,
    remarks.LEAD_INS,
    phrases={},
    slights={},
    unfit={
        "warmth.warm": ("impatient", "blunt", "sarcastic", "dry"),
        "energy.lively": ("dry", "blunt"),
        "emoji.emoji": ("dry", "blunt"),
        "energy.calm": ("anxious", "impatient"),
        "certainty.firm": ("anxious",),
        "certainty.hedged": ("blunt", "impatient"),
        "register.formal": ("impatient", "cheerful"),
        "register.lower": ("dry",),
        "length.roomy": ("impatient",),
    },
)
B = Simulator(
    "B",
    remarks_b.TEMPERS,
    remarks_b.FAULTS,
    remarks_b.CORRECTIONS,
    remarks_b.TAKEN_BACK,
    remarks_b.STRAYS,
    remarks_b.TOO_PERSONAL,
    remarks_b.FOR_OTHERS,
    remarks_b.PLAIN_WISHES,
    remarks_b.SMALL_TALK,
    remarks_b.LEAD_INS,
    remarks_b.PHRASES,
    remarks_b.SLIGHTS,
    unfit={
        "warmth.warm": ("curt", "wary"),
        "energy.lively": ("weary",),
        "energy.calm": ("brisk",),
        "certainty.hedged": ("curt",),
        "register.formal": ("brisk",),
        "length.roomy": ("curt", "brisk"),
    },
    pleased=4.25,
    cool=3.25,
    miss=2.75,
    withholds=2,
    opens=2,
)
SIMULATORS: Mapping[str, Simulator] = {each.name: each for each in (A, B)}


def other_simulator(simulator: Simulator) -> Simulator:
    """B for A, and A for B."""
    return B if simulator is A else A
