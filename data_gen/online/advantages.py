"""What a reply was worth beside its siblings: values of simulated futures, and the advantages that follow from them.

Advantages are those of each tree's replies by node id; a reply without one is left out. `methods` has other ways to
them, to compare with.

    Q_i = r_t + w 1/m sum_j sum_(l=1..H) gamma^l r_(t+l)    r along future j of sibling i
    A_i = (Q_i - mean of the other siblings' Q) / sigma(t)

w is how much of what siblings' futures differ by is not chance (`spread`): futures that say nothing would only drown
what a reply's own turn says. It is 1, the plain mean of returns, where one future cannot tell. The baseline leaves the
reply itself out, so A_i is k/(k - 1) times the distance from the mean. sigma is a running spread of the turn, not the
group's own, which would weigh a group up because its replies hardly differ.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aloe_jax.tree.schema import Conversation, Node
from data_gen.online.probes import answers_of
from data_gen.online.rewards import BELIEF, POTENTIAL, TOTAL, part
from data_gen.online.settings import RolloutSettings
from data_gen.online.spread import Seen, Spread

Advantages = dict[str, float]  # by node id
# (rewarded trees, shape of the trees, running spread or None) -> the advantages of each tree
Credit = Callable[[Sequence[Conversation], RolloutSettings, Spread | None], list[Advantages]]
EQUAL = 1e-9  # spreads up to here are rounding


@dataclass(frozen=True)
class Group:
    """The siblings of one turn. `returns` [k, m] are the discounted sums of their futures, their own turn included;
    None if a reply in them is unscored. `own` [k] are the rewards of their own turn; None where nothing follows it."""

    turn: int
    replies: tuple[str, ...]
    returns: np.ndarray | None
    own: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray | None:
        """Q of each sibling [k]."""
        return None if self.returns is None else self.returns.mean(1)

    @property
    def variance(self) -> float | None:
        """Sample variance of the siblings' Q."""
        return None if self.returns is None else float(self.returns.mean(1).var(ddof=1))

    @property
    def error(self) -> float:
        """Variance of a sibling's Q that is due to the futures: what is left of the returns without the means of
        siblings and of futures (whose draws siblings share), over m. 0 with one future, as that does not show it."""
        if self.returns is None or self.returns.shape[1] < 2:
            return 0.0
        left = self.returns - self.returns.mean(1, keepdims=True) - self.returns.mean(0) + self.returns.mean()
        siblings, futures = left.shape
        return float((left**2).sum() / ((siblings - 1) * (futures - 1)) / futures)

    @property
    def seen(self) -> Seen | None:
        """What its futures show of what is chance in them; None where they cannot."""
        if self.returns is None or self.own is None or min(self.returns.shape) < 2:
            return None
        later = (self.returns - self.own[:, None]).mean(1)
        return Seen(self.turn, float(later.var(ddof=1)), self.error)

    def weighed(self, weight: float) -> Group:
        """The group with futures that count `weight` as much."""
        if self.returns is None or self.own is None:
            return self
        own = self.own[:, None]
        return replace(self, returns=own + weight * (self.returns - own))

    @property
    def flat(self) -> bool:
        """Whether the siblings differ by no more than the Monte-Carlo error lets them."""
        return self.variance is not None and self.variance <= max(self.error, EQUAL**2)


@dataclass(frozen=True)
class Counts:
    """Of the groups of siblings in some trees: how many there are, how many have no spread beyond the Monte-Carlo
    error, and how many hold an unscored reply. The last two kinds get no advantages."""

    groups: int = 0
    flat: int = 0
    unscored: int = 0


class Below:
    """The replies and messages below each node of a tree."""

    def __init__(self, tree: Conversation) -> None:
        self.nodes = {node.id: node for node in tree.nodes}
        self.children: dict[str | None, list[Node]] = defaultdict(list)
        for node in tree.dialogue:
            self.children[node.parent].append(node)

    def turn(self, reply: Node) -> int:
        """The turn of a reply, from 1."""
        length, above = 1, reply.parent
        while above is not None:
            length, above = length + 1, self.nodes[above].parent
        return length // 2

    def next(self, user: str) -> Node | None:
        """The reply in which the dialogue goes on after a message: the first of several."""
        return next(iter(self.children[user]), None)

    def future(self, reply: str, start: str | None, length: int) -> list[tuple[Node, str | None]]:
        """A reply and those of the next `length` turns, as far as there are any, each with the message after it;
        `start` is the message after the first one."""
        found = [(self.nodes[reply], start)]
        while len(found) <= length and (user := found[-1][1]) is not None and (after := self.next(user)) is not None:
            found.append((after, next((child.id for child in self.children[after.id]), None)))
        return found

    def discounted(self, future: Sequence[tuple[Node, str | None]], settings: RolloutSettings) -> float | None:
        """The discounted sum of the rewards along a future; None if one of its replies is unscored. Its part for the
        belief is that of this future, where a reply has several."""
        value = 0.0
        for later, (reply, after) in enumerate(future):
            total, mean = part(reply, TOTAL), part(reply, BELIEF)
            if total is None or mean is None:
                return None
            value += settings.discount**later * (total - mean + self._gain(reply, after, mean, settings))
        return value

    def _gain(self, reply: Node, after: str | None, mean: float, settings: RolloutSettings) -> float:
        if len(self.children[reply.id]) < 2 or after is None or reply.parent is None:
            return mean
        phi = [part(self.nodes[user], POTENTIAL) or 0.0 for user in (reply.parent, after)]
        return settings.reward.belief * (settings.discount * phi[1] - phi[0])


def groups(tree: Conversation, settings: RolloutSettings) -> list[Group]:
    """The groups of siblings of a rewarded tree, first turn first."""
    below, found = Below(tree), []
    for turn, user in enumerate(tree.path[::2], start=1):
        replies = [node.id for node in below.children[user]]
        if len(replies) < 2:
            continue
        returns = []
        for reply in replies:
            starts: list[str | None] = [node.id for node in below.children[reply]]
            futures = [below.future(reply, start, settings.ahead(turn)) for start in starts or [None]]
            returns.append([below.discounted(future, settings) for future in futures])
        if any(value is None for row in returns for value in row):
            found.append(Group(turn, tuple(replies), None))
            continue
        own = np.array([part(below.nodes[reply], TOTAL) for reply in replies], np.float64)
        found.append(Group(turn, tuple(replies), np.array(returns, np.float64), own if settings.ahead(turn) else None))
    return found


def weighed(
    found: Sequence[Sequence[Group]], settings: RolloutSettings, spread: Spread | None
) -> Sequence[Sequence[Group]]:
    """The groups of each tree, with futures that count as much as `spread` has seen, or without one as these groups
    show. With `settings.weigh` off they count in full."""
    if not settings.weigh:
        return found
    spread = spread or Spread().seen(of_futures(found))
    return [[group.weighed(spread.weight(group.turn)) for group in of_tree] for of_tree in found]


def of_futures(found: Iterable[Iterable[Group]]) -> list[Seen]:
    """What the groups show of what is chance in their futures."""
    return [seen for of_tree in found for group in of_tree if (seen := group.seen) is not None]


def siblings(
    trees: Sequence[Conversation], settings: RolloutSettings, spread: Spread | None = None
) -> list[Advantages]:
    """Ours: a reply's simulated futures against those of its siblings, over the running spread of the turn, or
    undivided without one. Groups that are flat or unscored have no advantages."""
    found = weighed([groups(tree, settings) for tree in trees], settings, spread)
    return [_of_groups(of_tree, persona_group(tree), spread) for tree, of_tree in zip(trees, found, strict=True)]


def credited(
    trees: Sequence[Conversation], settings: RolloutSettings, spread: Spread, credit: Credit = siblings
) -> tuple[list[Conversation], Spread, Counts]:
    """The rewarded trees with Q as `value` of the replies that have siblings and the `advantage` that `credit` gives,
    the spread with these trees in it, by which it may divide, and the counts. Answers of probes are compared with each
    other alone and are in no count."""
    in_full = [groups(tree, settings) for tree in trees]
    spread = spread.seen(of_futures(in_full))
    by_tree = weighed(in_full, settings, spread)
    asked = [probe_groups(tree) for tree in trees]
    spread = spread.updated(
        (persona_group(tree), group.turn, group.variance)
        for tree, *found in zip(trees, by_tree, asked, strict=True)
        for group in itertools.chain(*found)
        if group.variance is not None and not group.flat
    )
    valued = []
    for tree, found, probes, advantages in zip(trees, by_tree, asked, credit(trees, settings, spread), strict=True):
        advantages |= _of_groups(probes, persona_group(tree), spread)
        values = {
            name: value
            for group in (*found, *probes)
            if group.values is not None
            for name, value in zip(group.replies, group.values.tolist(), strict=True)
        }
        nodes = (
            node.model_copy(update={"value": values.get(node.id), "advantage": advantages.get(node.id)})
            if node.role == "assistant"
            else node
            for node in tree.nodes
        )
        valued.append(tree.model_copy(update={"nodes": tuple(nodes)}))
    every = [group for found in by_tree for group in found]
    counts = Counts(len(every), sum(group.flat for group in every), sum(group.returns is None for group in every))
    return valued, spread, counts


def probe_groups(tree: Conversation) -> list[Group]:
    """The answers to each probe of a rewarded tree as siblings of turn 0, whose value is their own reward."""
    found = []
    for answers in answers_of(tree):
        totals = [part(answer, TOTAL) for answer in answers]
        if len(answers) > 1 and None not in totals:
            returns = np.array(totals, np.float64)[:, None]
            found.append(Group(0, tuple(answer.id for answer in answers), returns))
    return found


def _of_groups(found: Iterable[Group], persona: str, spread: Spread | None) -> Advantages:
    """The advantages of groups that are neither flat nor unscored, over the spread of their turn, or undivided."""
    advantages: Advantages = {}
    for group in found:
        if group.values is not None and not group.flat:
            sigma = spread.of(persona, group.turn) if spread else 1.0
            advantages |= against_others(group.replies, group.values, sigma)
    return advantages


def against_others(names: Sequence[str], values: Iterable[float], sigma: float = 1.0) -> Advantages:
    """Each value less the mean of the others, over sigma; there are at least two."""
    found = np.asarray(list(values), np.float64)
    return dict(zip(names, ((found - found.mean()) * len(found) / (len(found) - 1) / sigma).tolist(), strict=True))


def persona_group(tree: Conversation) -> str:
    """What tells personas apart whose rewards spread differently: the personality."""
    return tree.persona.personality if tree.persona else ""
