"""Methods of on-policy training: which trees a round rolls out, and what their replies learn from.

`siblings` and `tree` are ours; the others are what is published for multi-turn dialogues, on the same trees, rewards
and updates. A method decides the shape of its trees where its advantages need one; all other settings are the config's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean, pstdev
from typing import NamedTuple

import numpy as np

from aloe_jax.errors import InputError
from aloe_jax.train.objectives.pairwise import PAIRWISE
from aloe_jax.tree.schema import Conversation, Preference
from data_gen.game.values import preferred_by_value
from data_gen.online.advantages import (
    EQUAL,
    Advantages,
    Below,
    Counts,
    Credit,
    credited,
    groups,
    siblings,
)
from data_gen.online.rewards import REWARD, TOTAL, part
from data_gen.online.rollout import future_number
from data_gen.online.round_settings import OnlineSettings
from data_gen.online.settings import RolloutSettings
from data_gen.online.spread import Spread


def tree(trees: Sequence[Conversation], settings: RolloutSettings, spread: Spread | None = None) -> list[Advantages]:
    """Ours, with nothing that was sampled left out: siblings by the futures of each, every other reply by its own
    reward."""
    return _joined(siblings(trees, settings, spread), _without_siblings(trees, spread))


def turn(trees: Sequence[Conversation], settings: RolloutSettings, spread: Spread | None = None) -> list[Advantages]:
    """Turn by turn, as RLPA trains (arXiv 2505.15456): a reply's own reward, with nothing of the future, less the mean
    of its siblings or, for a reply without any, of the other trees' in that turn, over the running spread of the
    turn."""
    own = replace(settings, horizon=0.0)
    return _joined(siblings(trees, own, spread), _without_siblings([_main_path(each) for each in trees], spread))


def _main_path(tree: Conversation) -> Conversation:
    """The tree without futures: its main path, and the siblings there."""
    on_path = {None, *tree.path}
    return tree.model_copy(update={"nodes": tuple(node for node in tree.nodes if node.parent in on_path)})


class _Said(NamedTuple):
    tree: int
    future: int
    reward: float
    reply: str
    alone: bool  # whether it has no siblings


def _without_siblings(trees: Sequence[Conversation], spread: Spread | None) -> list[Advantages]:
    """Of replies without siblings: the own reward less the mean of those that share no draw with it, so that the
    baseline does not depend on the reply. These are the replies of its tree and turn in futures of another number, or
    where there are none the replies of the other trees in that turn. Over the running spread of the turn."""
    by_turn: dict[int, list[_Said]] = defaultdict(list)
    for number, tree in enumerate(trees):
        below = Below(tree)
        for reply in tree.replies():
            if (value := part(reply, TOTAL)) is not None:
                alone = len(below.children[reply.parent]) == 1
                by_turn[below.turn(reply)].append(_Said(number, future_number(reply.id), value, reply.id, alone))
    found: list[Advantages] = [{} for _ in trees]
    for place, said in by_turn.items():
        sigma = spread.of("", place) if spread else 1.0
        owners, futures = np.array([each.tree for each in said]), np.array([each.future for each in said])
        rewards = np.array([each.reward for each in said])
        for each in said:
            if not each.alone:
                continue
            own = owners == each.tree
            independent = own & (futures != each.future)
            others = independent if independent.any() else ~own
            if others.any():
                found[each.tree][each.reply] = float(each.reward - rewards[others].mean()) / sigma
    return found


def _joined(first: Sequence[Advantages], second: Sequence[Advantages]) -> list[Advantages]:
    return [one | other for one, other in zip(first, second, strict=True)]


def chain(trees: Sequence[Conversation], settings: RolloutSettings, spread: Spread | None = None) -> list[Advantages]:
    """GRPO on dialogues (arXiv 2402.03300): the return of a whole dialogue, standardised over the dialogues of a
    persona, for each of its replies."""
    found: list[Advantages] = [{} for _ in trees]
    for numbers in _by_persona(trees):
        returns = {number: _of_path(trees[number], settings) for number in numbers}
        standard = _standardised([value for value in returns.values() if value is not None])
        for number, value in returns.items():
            if value is not None:
                found[number] = dict.fromkeys(trees[number].path[1::2], standard(value))
    return found


def leaf(trees: Sequence[Conversation], settings: RolloutSettings, spread: Spread | None = None) -> list[Advantages]:
    """Tree-GRPO (arXiv 2509.21240): the return of each leaf's whole dialogue, standardised over the leaves of its tree
    and over those of all trees of the persona, both added; a reply has the mean of the leaves below it."""
    found: list[Advantages] = [{} for _ in trees]
    for numbers in _by_persona(trees):
        leaves = {number: list(_leaves(trees[number], settings)) for number in numbers}
        across = _standardised([value for own in leaves.values() for _, value in own])
        for number, own in leaves.items():
            within = _standardised([value for _, value in own])
            above: dict[str, list[float]] = defaultdict(list)
            for names, value in own:
                for name in names:
                    above[name].append(within(value) + across(value))
            found[number] = {name: fmean(values) for name, values in above.items()}
    return found


def by_value(tree: Conversation, settings: RolloutSettings) -> tuple[Preference, ...]:
    """A preference for every two siblings of a group with a spread, for the one whose futures were worth more."""
    found: list[Preference] = []
    for group in groups(tree, settings):
        replies = [tree.node(reply) for reply in group.replies]
        if None not in [reply.advantage for reply in replies]:
            found += preferred_by_value(replies, 0.0, REWARD)
    return tuple(found)


@dataclass(frozen=True)
class Method:
    """An entry of the table of methods.

    Attributes:
        advantages: of the replies of a round's trees.
        objectives: those that learn from its trees.
        shaped: the shape of its trees, given that of the config: what it needs, it decides.
        siblings: whether it learns from siblings alone.
        across_trees: whether it compares a reply without siblings with those of the round's other trees.
        per_persona: trees of a persona in a round, where the config leaves it open; more than one are compared.
        preferences: those between replies of a tree with values; none if it learns from advantages.
    """

    advantages: Credit
    objectives: Sequence[str]
    shaped: Callable[[RolloutSettings], RolloutSettings] = lambda settings: settings
    siblings: bool = True
    across_trees: bool = False
    per_persona: int = 1
    preferences: Callable[[Conversation, RolloutSettings], tuple[Preference, ...]] = lambda tree, settings: ()

    def credited(
        self, trees: Sequence[Conversation], settings: RolloutSettings, spread: Spread
    ) -> tuple[list[Conversation], Spread, Counts]:
        """The rewarded trees with what their replies learn from, the running spread with them in it, and the counts."""
        valued, spread, counts = credited(trees, settings, spread, self.advantages)
        return (
            [tree.model_copy(update={"preferences": self.preferences(tree, settings)}) for tree in valued],
            spread,
            counts,
        )

    def trees_per_persona(self, settings: OnlineSettings) -> int:
        """How many trees of a round have the same persona."""
        return settings.per_persona or self.per_persona


def _no_futures(settings: RolloutSettings) -> RolloutSettings:
    return replace(settings, horizon=0.0, futures=1)


def _no_siblings(settings: RolloutSettings) -> RolloutSettings:
    return replace(settings, siblings=1, share=0.0)


def _to_the_end(settings: RolloutSettings) -> RolloutSettings:
    return replace(settings, horizon=float(settings.turns), common_draws=False)


_BY_ADVANTAGE = ("tree_regression", "policy_gradient")
METHODS: Mapping[str, Method] = {
    "siblings": Method(siblings, (*_BY_ADVANTAGE, "distil")),  # which needs trees and no advantages
    "tree": Method(tree, ("policy_gradient",), across_trees=True),  # tree_regression compares siblings
    "turn": Method(turn, _BY_ADVANTAGE, _no_futures, siblings=False, across_trees=True),
    "chain": Method(chain, ("policy_gradient",), _no_siblings, siblings=False, per_persona=4),
    "leaf": Method(leaf, _BY_ADVANTAGE, _to_the_end),
    "pairs": Method(siblings, tuple(PAIRWISE), preferences=by_value),
}


def check_method(settings: OnlineSettings) -> None:
    """Raise InputError if `config.online` names no method, or if its objective or its trees do not suit it."""
    if (method := METHODS.get(settings.method)) is None:
        raise InputError(f"config.online.method: '{settings.method}' is unknown; choose one of {', '.join(METHODS)}")
    if settings.objective not in method.objectives:
        others = [name for name, other in METHODS.items() if settings.objective in other.objectives]
        remedy = f", or the method to one of {', '.join(others)}" if others else ""
        raise InputError(
            f"config.online.objective: '{settings.objective}' does not learn from the trees of the method "
            f"'{settings.method}'; set it to one of {', '.join(method.objectives)}{remedy}"
        )
    shape = method.shaped(settings.rollout)
    _check_probes(settings, shape)
    compared = shape.siblings > 1 and shape.share > 0
    regressed = settings.objective == "tree_regression"  # between siblings, whatever the method
    if (regressed or (method.siblings and settings.objective != "distil")) and not compared:
        name, value, least = ("siblings", 1, "2") if shape.siblings == 1 else ("share", 0, "0.1")
        raise InputError(
            f"config.online.rollout.{name}: {value}, but the method '{settings.method}' with the objective "
            f"'{settings.objective}' learns from siblings that differ; set it to at least {least}"
        )
    if method.across_trees and settings.trees == 1 and not compared:
        raise InputError(
            f"config.online.trees: 1, but without siblings the method '{settings.method}' compares the trees of a "
            "round; set it to at least 2, or config.online.rollout.siblings to at least 2 and share to at least 0.1"
        )
    count = method.trees_per_persona(settings)
    if count == 1 < method.per_persona:
        raise InputError(
            f"config.online.per_persona: the method '{settings.method}' compares the trees of a persona; set it to at "
            f"least 2, or to 0 for {method.per_persona}"
        )
    if settings.trees % count:
        raise InputError(
            f"config.online.trees: {settings.trees} trees are not {count} for each persona; set it to a multiple of "
            f"{count}, or config.online.per_persona to a divisor of it"
        )


def _check_probes(settings: OnlineSettings, shape: RolloutSettings) -> None:
    """Raise InputError for probes that are never asked."""
    if shape.probes and not shape.chosen:
        remedy = "config.online.rollout.share to at least 0.1"
        if settings.rollout.chosen:
            remedy = f"config.online.method to another one than '{settings.method}', which has no chosen turns"
        raise InputError(
            f"config.online.rollout.probes: {shape.probes}, but probes are asked at chosen turns, and there are none; "
            f"set it to 0, or {remedy}"
        )


def decided(settings: OnlineSettings) -> str:
    """What the method decides otherwise than the config has it, in words; empty if that is nothing."""
    given = settings.rollout
    made = METHODS[settings.method].shaped(given)
    return ", ".join(
        f"rollout.{each.name}={getattr(made, each.name)}"
        for each in fields(RolloutSettings)
        if getattr(made, each.name) != getattr(given, each.name)
    )


def _standardised(values: Sequence[float]) -> Callable[[float], float]:
    """Distance from the mean of `values` in their standard deviations; 0 where these do not differ."""
    mean, deviation = (fmean(values), pstdev(values)) if values else (0.0, 0.0)
    return lambda value: (value - mean) / deviation if deviation > EQUAL else 0.0


def _of_path(tree: Conversation, settings: RolloutSettings) -> float | None:
    """The return of the main path, from its first turn to its end."""
    below = Below(tree)
    reply = tree.path[1]
    start = next((child.id for child in below.children[reply]), None)
    return below.discounted(below.future(reply, start, settings.turns), settings)


def _leaves(tree: Conversation, settings: RolloutSettings) -> Iterable[tuple[list[str], float]]:
    """The replies on the way to each leaf, and the return of that dialogue. Leaves behind an unscored reply are left
    out."""
    below = Below(tree)
    ends = [node for node in tree.replies() if not any(below.children[user.id] for user in below.children[node.id])]
    for end in ends:
        path = tree.path_to(end.id)
        replies = path[1::2]
        after = [user.id for user in path[2::2]]
        last = next((user.id for user in below.children[end.id]), None)
        value = below.discounted(list(zip(replies, [*after, last], strict=True)), settings)
        if value is not None:
            yield [reply.id for reply in replies], value


def _by_persona(trees: Sequence[Conversation]) -> Iterable[list[int]]:
    """The trees of each persona, by their place."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, tree in enumerate(trees):
        found[tree.persona.id if tree.persona else tree.id].append(number)
    return found.values()
