"""Attributes that are drawn for each person of the pool before a model writes it; all values are used evenly.

Asked for twenty people, a model gives twenty variations of one. So an age, a region, a job ... is drawn for each of
them first. The values are starting points: a proposal may depart from them, and no rule checks them.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Mapping

from aloe_jax.errors import InputError
from data_gen.personas.entry import Kind, check_kind

_CANDIDATES = 16  # combinations compared per draw

_TABLES: Mapping[Kind, Mapping[str, str]] = {
    "profile": {
        "age_band": "late teens; 20s; 30s; 40s; 50s; 60s; 70s; 80s or over",
        "region": (
            "Algeria; Argentina; southern Australia; Bangladesh; Belgium; Bolivia; northern Brazil; Cambodia; "
            "Cameroon; western Canada; Chile; coastal China; inland China; Colombia; Croatia; Cuba; Denmark; Ecuador; "
            "southern Egypt; Ethiopia; Finland; rural France; Ghana; Greece; Guatemala; Hungary; northern India; "
            "western India; Indonesia; Iran; Iraq; Ireland; southern Italy; Jamaica; rural Japan; Kazakhstan; Kenya; "
            "Lebanon; Lithuania; Madagascar; Malaysia; northern Mexico; Morocco; Nepal; the Netherlands; New Zealand; "
            "Nigeria; northern England; Norway; Pakistan; Peru; the Philippines; eastern Poland; Portugal; Romania; "
            "Rwanda; Scotland; Senegal; Serbia; South Africa; South Korea; northern Spain; Sri Lanka; Sweden; "
            "Switzerland; Taiwan; Tanzania; Thailand; Tunisia; Turkey; Uganda; Ukraine; Uruguay; Uzbekistan; Vietnam; "
            "Wales; Appalachia; California; the Deep South of the United States; the Great Plains; New England"
        ),
        "work": (
            "air traffic control; apprentice butcher; archivist; baker; bank teller; beekeeper; bicycle courier; "
            "boat builder; bookkeeper; bricklayer; bus driver; cancer nurse; carer for a parent; cashier; "
            "civil servant; cleaner; coal miner; crane operator; customs officer; dentist; electrician; farm vet; "
            "factory shift leader; firefighter; fisher; florist; forester; game tester; geologist; glazier; "
            "goat herder; hairdresser; hotel receptionist; illustrator; imam; insurance clerk; judge; kindergarten; "
            "laboratory technician; landlord; librarian; locksmith; market stall; mathematician; mechanic; "
            "music teacher; optician; out of work; paramedic; parish priest; pharmacist; piano tuner; police; potter; "
            "prison teacher; programmer; quarry worker; radio engineer; retired cook; retired soldier; roofer; "
            "sailor; school bus escort; security guard; shoe repair; social worker; stonemason; street vendor; "
            "student; surgeon; tailor; taxi driver; theatre technician; tour guide; translator; undertaker; waiter; "
            "watchmaker; welder; wholesale trader; zoo keeper"
        ),
        "household": (
            "alone; with a cat; with a partner; newly married; married with small children; married with teenagers; "
            "children have left; with grandchildren; single parent; with parents; with one parent who is ill; "
            "with a sibling; in a shared flat; in a dormitory; in a monastery; in a caravan; on a boat; separated; "
            "divorced, sees the children at weekends; widowed; partner abroad; two mothers or two fathers; "
            "with in-laws; in sheltered housing; lodger with a stranger; foster family"
        ),
        "pastime": (
            "amateur theatre; astronomy; bread; brass band; card games; carpentry; ceramics; chess; choir; climbing; "
            "clock repair; community garden; cooking for crowds; cricket; crime novels; dance; darts; dog training; "
            "drawing; embroidery; fishing; football; foraging; genealogy; go; guitar; handball; herbs; horses; "
            "ice skating; judo; kites; languages; local history; magic tricks; maps; model railways; motorbikes; "
            "old films; origami; photography; poetry; puzzles; radio plays; running; sailing; scrapbooks; sewing; "
            "singing; skiing; stamp collecting; swimming; table tennis; tattoos; video games; volunteering; walking; "
            "weaving; weightlifting; wine; woodland; yoga"
        ),
        "strain": (
            "debts; a new diagnosis; an old injury; insomnia; a court case; an exam; a move; a promotion; "
            "a quarrel in the family; a secret; unpaid wages; a leaking house; a birth; a death; dyslexia; "
            "a hearing aid; migraine; an inheritance; a visa; a strike; retirement ahead; a wedding; drinking; "
            "loneliness; a rent rise; a bad harvest; a stammer; a lost friend; caring at night; pregnancy; "
            "a career change; a pet that is dying; a neighbour; homesickness; a robbery; money that came too late"
        ),
    },
    "personality": {
        "tone": (
            "abrupt; anxious; argumentative; blunt; boastful; bored; brooding; cheerful; cold; complaining; cynical; "
            "dreamy; dry; envious; exact; fussy; gentle; gloomy; gossiping; haughty; hurried; impatient; insecure; "
            "ironic; irritable; lecturing; loud; moody; nervous; obstinate; pedantic; playful; prickly; proud; "
            "resigned; rude; sarcastic; shy; sour; stiff; sulky; suspicious; sweet with an edge; teasing; terse; "
            "theatrical; vague; warm; weary; wary"
        ),
        "pace": (
            "one word at a time; short bursts; long and winding; slow with pauses; breathless; measured; jumps about; "
            "starts and stops; late replies; answers at once; repeats for effect; trails off"
        ),
        "need": (
            "a decision; a listener; an argument; applause; company at night; comfort without advice; control; "
            "exact figures; examples; forgiveness; to be flattered; to be left some choice; to be teased; "
            "to be taught; to be believed; to win; facts with sources; gossip; hard truths; permission; a plan; "
            "praise for effort; proof; reminders; rhythm and beauty; rules; silence; speed; stories; surprise; "
            "a second opinion; to vent; to show off; step by step"
        ),
        "dislike": (
            "being corrected; being hurried; being interrupted; being pitied; being praised; bullet points; clichés; "
            "compliments; emoji; endless options; exclamation marks; excuses; explanations of the obvious; flattery; "
            "follow-up questions; forced cheer; formality; hedging; jargon; jokes about serious things; lists; "
            "long answers; moralising; nicknames; optimism; over-familiarity; personal questions; pep talks; "
            "questions answered with questions; repetition; silence; slang; small talk; summaries; unasked advice; "
            "vagueness"
        ),
        "humour": (
            "none; dry; absurd; gallows; puns; self-mocking; at others' expense; slapstick; inside jokes; deadpan; "
            "tall tales; only when nervous; irony that is easily missed; silly late at night"
        ),
    },
}


def attribute_values(kind: Kind) -> dict[str, tuple[str, ...]]:
    """The attributes of a kind, each with its values."""
    check_kind(kind)
    return {name: tuple(text.split("; ")) for name, text in _TABLES[kind].items()}


def draw_attributes(kind: Kind, seed: int, number: int) -> dict[str, str]:
    """Draw `number` (from 0) of the sequence that `seed` determines: one value per attribute.

    The least used values come first: within the first n draws, for any n, the uses of two values of an attribute
    differ by at most one. Of several combinations, the one whose pairs of values were used least is taken. InputError
    for a negative number.
    """
    if number < 0:
        raise InputError(f"number is {number}, expected at least 0")
    return dict(_sequence(kind, seed).get(number))


@functools.lru_cache(maxsize=16)
def _sequence(kind: Kind, seed: int) -> _Sequence:
    return _Sequence(kind, seed)


class _Sequence:
    """The draws so far; each depends on those before it."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self._values = attribute_values(kind)
        self._rng = random.Random(f"attributes {kind} {seed}")
        self._left: dict[str, list[str]] = {name: [] for name in self._values}  # not yet used in this cycle
        self._pairs: Counter[tuple[tuple[str, str], tuple[str, str]]] = Counter()
        self._drawn: list[dict[str, str]] = []

    def get(self, number: int) -> dict[str, str]:
        while len(self._drawn) <= number:
            self._drawn.append(self._draw())
        return self._drawn[number]

    def _draw(self) -> dict[str, str]:
        for name, left in self._left.items():
            if not left:
                left.extend(self._values[name])
        candidates = [{name: self._rng.choice(left) for name, left in self._left.items()} for _ in range(_CANDIDATES)]
        best = min(candidates, key=lambda drawn: sum(self._pairs[pair] for pair in _pairs(drawn)))
        self._pairs.update(_pairs(best))
        for name, value in best.items():
            self._left[name].remove(value)
        return best


def _pairs(drawn: Mapping[str, str]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    return list(itertools.combinations(drawn.items(), 2))
