"""Trying a judge: its verdicts on pairs of the scripted world, whose better reply is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from aloe_jax.errors import InputError
from aloe_jax.serve.client.call_errors import CallError
from aloe_jax.tree.schema import Message, Persona
from data_gen.agreement import Choice, kappa
from data_gen.concurrency import gather_all
from data_gen.roles import Comparison, Judge, Revealed, Told
from data_gen.world.inducer import shown
from data_gen.world.judge import assess
from data_gen.world.oracle import oracle_reply
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import STRATEGIES, play
from data_gen.world.teacher import taught_reply

CLEAR = 1.0  # points of the scripted score by which the better reply leads
TURNS = 3
READABLE = 0.25  # share of the verdicts that have to be readable


@dataclass(frozen=True)
class Trial:
    """Two replies to one dialogue; `first_better` is the scripted judge's verdict. `fault` is the kind of candidate
    whose fault the worse one has, where it was made for one."""

    persona: Persona
    dialogue: tuple[Message, ...]
    revealed: tuple[Revealed, ...]
    first: str
    second: str
    first_better: bool
    fault: str = ""


class FaultTrials(TypedDict):
    """Verdicts on pairs of a sound reply and one with a fault: how often the sound one was preferred (`right`)."""

    pairs: int
    right: int
    inconclusive: int
    unreadable: int


class JudgeTrials(TypedDict):
    """Content of `judge.json`: the `judge`'s name and the number of `pairs`; of a judge that was tried also how many
    verdicts were `unreadable` or `inconclusive` (they change with the order), the `flip_rate` (share of the latter
    among the readable ones), and `agreement` and `kappa` with the scripted judge (a tie, and an inconclusive verdict,
    agree with neither). `faults` are counts of further pairs, by kind of candidate."""

    judge: str
    pairs: int
    unreadable: NotRequired[int]
    inconclusive: NotRequired[int]
    flip_rate: NotRequired[float | None]
    agreement: NotRequired[float | None]
    kappa: NotRequired[float | None]
    faults: NotRequired[dict[str, FaultTrials]]


def trials(count: int, seed: int) -> list[Trial]:
    """`count` clear cases: dialogues of the scripted world with two replies by different strategies whose scores differ
    by at least `CLEAR`, the better reply first in half of them."""
    rng = random.Random(f"trials {seed}")
    personas = scripted_personas("train", profiles=max(1, count), personalities=16, seed=seed, pairings=1)
    found: list[Trial] = []
    for number in range(50 * count):
        if len(found) == count:
            break
        persona = personas[number % len(personas)]
        dialogue, _ = play(persona, "oracle", rng.randint(1, TURNS), seed + number)
        dialogue = dialogue[:-1]
        names = rng.sample([name for name in STRATEGIES if name != "empty"], 2)
        replies = [STRATEGIES[name](persona, dialogue, seed + number) for name in names]
        scores = [assess(persona, dialogue, reply).value for reply in replies]
        if abs(scores[0] - scores[1]) < CLEAR:
            continue
        first_better = len(found) % 2 == 0
        if (scores[0] > scores[1]) != first_better:
            replies.reverse()
        revealed = shown(persona, dialogue)
        found.append(Trial(persona, tuple(dialogue), revealed, replies[0], replies[1], first_better))
    return found


def fault_trials(count: int, seed: int) -> list[Trial]:
    """`count` clear cases per fault of a kind of candidate: the oracle's reply, and one that misses the style (that for
    another persona), the topic (the answer to another user), says an earlier reply again, or gives a fact away."""
    found: list[Trial] = []
    personas = scripted_personas("train", profiles=max(2, count), personalities=16, seed=seed, pairings=1)
    for fault, spoilt in FAULTS.items():
        mine: list[Trial] = []
        for number in range(50 * count):
            if len(mine) == count:
                break
            persona, other = personas[number % len(personas)], personas[(number + 1) % len(personas)]
            dialogue, _ = play(persona, "oracle", TURNS, seed + number)
            dialogue = dialogue[:-1]
            sound, bad = oracle_reply(persona, dialogue, seed + number), spoilt(persona, other, dialogue, seed + number)
            if assess(persona, dialogue, sound).value - assess(persona, dialogue, bad).value < CLEAR:
                continue
            first_better = len(mine) % 2 == 0
            first, second = (sound, bad) if first_better else (bad, sound)
            mine.append(Trial(persona, tuple(dialogue), shown(persona, dialogue), first, second, first_better, fault))
        found += mine
    return found


def _other_style(persona: Persona, other: Persona, dialogue: Sequence[Message], seed: int) -> str:
    """The oracle's reply as for a user with the other's traits."""
    turn = len(dialogue) // 2 + 1
    known = tuple(Revealed(item.id, turn) for item in other.traits)
    return taught_reply(Told(persona.model_copy(update={"traits": other.traits}), known), dialogue, seed)


# The worse reply by fault: of the persona, another one, the dialogue and a seed.
FAULTS: Mapping[str, Callable[[Persona, Persona, Sequence[Message], int], str]] = {
    "other_persona": _other_style,
    "repetition": lambda persona, other, dialogue, seed: dialogue[1].content,
    "off_topic": lambda persona, other, dialogue, seed: play(other, "oracle", 1, seed)[0][1].content,
    "leak": lambda persona, other, dialogue, seed: STRATEGIES["guesser"](persona, dialogue, seed),
}


async def try_judge(judge: Judge, trials: Sequence[Trial]) -> JudgeTrials:
    """Figures of a judge over the trials. Raises CallError where its server fails on most of them."""
    failures: list[CallError] = []
    verdicts = await gather_all(_verdict(judge, case, failures) for case in trials)
    if 2 * len(failures) > len(trials):
        raise failures[-1]
    judged = list(zip(trials, verdicts, strict=True))
    cases = [case for case in trials if not case.fault]
    readable = [(case, verdict) for case, verdict in judged if verdict is not None and not case.fault]
    inconclusive = sum(verdict.inconclusive for _, verdict in readable)
    found = kappa([(_label(verdict), "first" if case.first_better else "second") for case, verdict in readable])
    figures: JudgeTrials = {
        "judge": judge.name,
        "pairs": len(cases),
        "unreadable": len(cases) - len(readable),
        "inconclusive": inconclusive,
        "flip_rate": _share(inconclusive, len(readable)),
        "agreement": None if found.agreement is None else round(found.agreement, 3),
        "kappa": None if found.kappa is None else round(found.kappa, 3),
    }
    faults = dict.fromkeys(case.fault for case in trials if case.fault)
    if faults:
        figures["faults"] = {name: _on_fault([each for each in judged if each[0].fault == name]) for name in faults}
    return figures


def _on_fault(judged: Sequence[tuple[Trial, Comparison | None]]) -> FaultTrials:
    readable = [(case, verdict) for case, verdict in judged if verdict is not None]
    return {
        "pairs": len(judged),
        "right": sum(_label(verdict) == ("first" if case.first_better else "second") for case, verdict in readable),
        "inconclusive": sum(verdict.inconclusive for _, verdict in readable),
        "unreadable": len(judged) - len(readable),
    }


async def _verdict(judge: Judge, case: Trial, failures: list[CallError]) -> Comparison | None:
    """The verdict on a case; None if it is unreadable, or the server fails on this case, which goes to `failures`."""
    try:
        return await judge.prefer(case.persona, case.dialogue, case.first, case.second, case.revealed)
    except CallError as error:
        failures.append(error)
        return None


def unreadable(found: JudgeTrials, said: str) -> InputError | None:
    """The error if hardly any verdict was readable, so that trees would be paid for and hold no preference; else None.
    `said` is what the judge said last."""
    count = found.get("unreadable", 0)
    if found["pairs"] - count >= READABLE * found["pairs"]:
        return None
    return InputError(
        f"config.roles.judge: {count} of {found['pairs']} verdicts of '{found['judge']}' in its trials are unreadable; "
        f"expected 1 or 2, it said {said[:60]!r}; raise config.roles.judge.max_tokens, let it think less with "
        "config.roles.judge.chat_template_kwargs or reasoning_effort, or name another model, and add --fork"
    )


def _label(verdict: Comparison) -> Choice:
    return "tie" if verdict.p == 0.5 or verdict.inconclusive else "first" if verdict.p > 0.5 else "second"


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None
