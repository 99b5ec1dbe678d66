"""What a model says that it has learned about its users, against what they had shown: by turn precision, recall, F1,
claims without evidence, calibration, and how soon it notices that a user has changed a preference.

Only the scripted world knows what a user has shown; users of other personas have no truth, and no such figures. All
shares are of sums over the cases, (right claims) / (claims) and not a mean of each case's share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from aloe_jax.tree.probe import PROBE, read_cut
from aloe_jax.tree.schema import Conversation, Message, Node, Persona, Record
from data_gen.world.catalogue import bank_id, correctness, shown_claims
from data_gen.world.inducer import of_this_world
from data_gen.world.styles import change_of
from eval.benchmark.probing import PROBABILITY
from eval.benchmark.statistics import percentile_interval, two_way_weights

BINS = 5  # of equal width, for the calibration error; few, as a benchmark has a few hundred claims per turn
Interval = tuple[float, float] | None


class Change(Record):
    """What a belief says of a preference that the user has changed: `since` is the number of turns from the first one
    with the new setting, `shown` whether the user has shown it by now, `new` and `old` which settings are named."""

    since: int = Field(ge=0)
    shown: bool
    new: bool
    old: bool


class BeliefCounts(Record):
    """The answer to a probe, counted: claims, those of them that are `right` (the user has shown the item and holds it
    still) and `unfounded` (the turn named shows nothing of it), and how many items there were to name. `probabilities`
    are pairs of what the model gave a claim and whether it is right; claims without one are left out."""

    claims: int = Field(ge=0)
    right: int = Field(ge=0)
    unfounded: int = Field(ge=0)
    shown: int = Field(ge=0)
    readable: bool = True
    probabilities: tuple[tuple[float, bool], ...] = ()
    change: Change | None = None


def belief_of(tree: Conversation, reply: Node) -> BeliefCounts | None:
    """The belief that was asked for under a reply; None if none was, or the persona is not of the scripted world. An
    answer that cannot be read claims nothing."""
    persona = tree.persona
    answer = next((node for node in tree.nodes if node.parent == f"{reply.id}/{PROBE}" and node.is_probe), None)
    if answer is None or persona is None or not of_this_world(persona):
        return None
    dialogue = [Message(role=node.role, content=node.text) for node in tree.path_to(reply.id)]
    claims = read_cut(answer.text)
    named = {claim.item for claim in claims or ()}
    true = {claim.item for claim in shown_claims(persona, dialogue)}
    given = {score.criterion: score.value for score in answer.scores if score.judge == PROBABILITY}
    return BeliefCounts(
        claims=len(named),
        right=len(named & true),
        unfounded=correctness(claims or (), persona, dialogue).unfounded,
        shown=len(true),
        readable=claims is not None,
        probabilities=tuple(
            (round(p, 6), item in true) for item in sorted(named) if (p := given.get(item)) is not None
        ),
        change=_change(persona, sum(message.role == "user" for message in dialogue), named, true),
    )


def _change(persona: Persona, turn: int, named: set[str], true: set[str]) -> Change | None:
    """What is named of the preference that the user has changed by `turn`; None if it has changed none."""
    found = change_of(persona)
    if found is None or turn < found[1]:
        return None
    new, start = found
    old = {bank_id(item.id) for item in persona.traits} - {new.id}
    old = {item for item in old if item.partition(".")[0] == new.axis}
    return Change(since=turn - start, shown=new.id in true, new=new.id in named, old=bool(old & named))


class Shares(Record):
    """Figures of the beliefs of a turn, or of all. Null: nothing to divide by."""

    precision: float | None  # right claims / claims
    recall: float | None  # right claims / items shown
    f1: float | None  # 2 x right claims / (claims + items shown)
    unfounded: float | None  # claims whose turn does not show their item / claims
    brier: float | None  # mean of (probability - right)^2 over the claims with a probability
    calibration_error: float | None  # mean over those claims of |mean probability - share right| of their bin


class TurnShares(Shares):
    """Those of a turn, with the interval of F1 over other profiles and personalities."""

    turn: int
    beliefs: int
    f1_interval: Interval


class Bin(Record):
    """The claims of a range of probabilities: how many, their mean probability, and the share that is right."""

    low: float
    high: float
    claims: int
    probability: float
    right: float


class Revision(Record):
    """Of the users who changed a preference `since` turns before: how many, and the shares of those who have shown the
    new setting, whose new setting is named, whose old one still is, and of whom both are right."""

    since: int
    cases: int
    shown: float
    new: float
    old: float
    revised: float


class BeliefMetrics(Record):
    """Content of `belief` in `metrics.json`."""

    overall: Shares
    turns: tuple[TurnShares, ...]
    bins: tuple[Bin, ...]
    revision: tuple[Revision, ...]  # empty: no user changes a preference
    claims: int
    without_probability: int  # claims of which the player gave no log-probabilities; they count in no calibration
    unreadable: int  # answers that are none; they claim nothing


Row = tuple[str, str, int, BeliefCounts]  # profile, personality, turn, belief


def belief_metrics(rows: Sequence[Row], resamples: int, seed: int, level: float) -> BeliefMetrics | None:
    """The figures of all beliefs, given with the profile and the personality of the case and the turn; None without
    any."""
    if not rows:
        return None
    found = [belief for *_, belief in rows]
    claims, given = sum(each.claims for each in found), _given(found)
    by_turn: dict[int, list[Row]] = {turn: [] for turn in sorted({turn for *_, turn, _ in rows})}
    for row in rows:
        by_turn[row[2]].append(row)
    return BeliefMetrics(
        overall=Shares(**_shares(found)),
        turns=tuple(
            TurnShares(
                **_shares([belief for *_, belief in here]),
                turn=turn,
                beliefs=len(here),
                f1_interval=_interval(here, resamples, seed, level),
            )
            for turn, here in by_turn.items()
        ),
        bins=tuple(_bins(given)),
        revision=tuple(_revisions([belief.change for belief in found if belief.change is not None])),
        claims=claims,
        without_probability=claims - len(given),
        unreadable=sum(not each.readable for each in found),
    )


def _given(beliefs: Sequence[BeliefCounts]) -> list[tuple[float, bool]]:
    return [pair for each in beliefs for pair in each.probabilities]


def _shares(beliefs: Sequence[BeliefCounts]) -> Mapping[str, float | None]:
    names = ("claims", "right", "shown", "unfounded")
    claims, right, shown, unfounded = (sum(getattr(each, name) for each in beliefs) for name in names)
    given = _given(beliefs)
    error = sum(each.claims * abs(each.probability - each.right) for each in _bins(given))
    return {
        "precision": _ratio(right, claims),
        "recall": _ratio(right, shown),
        "f1": _ratio(2 * right, claims + shown),
        "unfounded": _ratio(unfounded, claims),
        "brier": _ratio(sum((p - is_right) ** 2 for p, is_right in given), len(given)),
        "calibration_error": _ratio(error, len(given)),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _bins(given: Sequence[tuple[float, bool]]) -> list[Bin]:
    """The bins that have a claim; a probability on a border is in the upper one, 1 in the last."""
    places = [min(int(p * BINS), BINS - 1) for p, _ in given]
    found = []
    for place in sorted(set(places)):
        inside = [pair for pair, other in zip(given, places, strict=True) if other == place]
        probability, right = (float(np.mean(values)) for values in zip(*inside, strict=True))
        low, high = place / BINS, (place + 1) / BINS
        found.append(Bin(low=low, high=high, claims=len(inside), probability=probability, right=right))
    return found


def _interval(rows: Sequence[Row], resamples: int, seed: int, level: float) -> Interval:
    """The interval of F1 by the two-way bootstrap; None where neither factor varies or F1 is undefined."""
    profiles, personalities, _, beliefs = zip(*rows, strict=True)
    whole = np.array([each.claims + each.shown for each in beliefs])
    right = np.array([2 * each.right for each in beliefs])
    if len({*profiles}) == len({*personalities}) == 1 or not whole.sum():
        return None
    weights = two_way_weights(_numbered(profiles), _numbered(personalities), resamples, seed)
    totals = weights @ whole
    ratios = np.divide(weights @ right, totals, out=np.full_like(totals, np.nan), where=totals > 0)
    return percentile_interval(ratios, level)


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def _numbered(names: Sequence[str]) -> np.ndarray:
    return np.unique(list(names), return_inverse=True)[1]


def _revisions(changes: Sequence[Change]) -> list[Revision]:
    found = []
    for since in sorted({each.since for each in changes}):
        here = [each for each in changes if each.since == since]
        found.append(
            Revision(
                since=since,
                cases=len(here),
                shown=_share([each.shown for each in here]),
                new=_share([each.new for each in here]),
                old=_share([each.old for each in here]),
                revised=_share([each.new and not each.old for each in here]),
            )
        )
    return found
