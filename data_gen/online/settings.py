"""What a rollout tree looks like, and what a reply is rewarded for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aloe_jax.settings import section, setting


@dataclass(frozen=True)
class RewardSettings:
    """What a turn's reward is made of. The judge's score and the belief are in [0, 1] before they are weighted, and a
    penalty is in units of what it counts."""

    score: float = setting(
        1.0,
        "weight of the judge's score of what the user has shown, taken to [0, 1]; 0: no judge is asked",
        minimum=0,
    )
    belief: float = setting(1.0, "weight of the gain in correct belief about the user", minimum=0)
    questions: float = setting(0.1, "taken off for each question above `question_budget`", minimum=0)
    question_budget: int = setting(1, "questions of a reply that cost nothing", minimum=0)
    length: float = setting(
        0.1, "taken off for a reply of twice `length_budget` words, in proportion above it", minimum=0
    )
    length_budget: int = setting(60, "words of a reply that cost nothing", minimum=1)
    repetition: float = setting(0.2, "taken off for a reply that is an earlier one again, in part for parts", minimum=0)
    probe: float = setting(1.0, "of a probe's answer: weight of its gain in F1", minimum=0)
    unfounded: float = setting(
        0.1, "of a probe's answer: taken off for each claim whose turn does not show it", minimum=0
    )
    leak: float = setting(0.2, "taken off for a reply that names a fact the user has not shown", minimum=0)
    personal: float = setting(
        0.2, "taken off for a reply that is about the user in a turn in which it is not to be", minimum=0
    )
    flattery: float = setting(0.1, "taken off for a reply that praises the user without content", minimum=0)


@dataclass(frozen=True)
class RolloutSettings:
    """The shape of a rollout tree: a dialogue of the policy, siblings of its replies at some turns, and what becomes of
    the dialogue after each of them."""

    turns: int = setting(10, "user turns of the main path", minimum=1)
    siblings: int = setting(3, "replies that are compared at a chosen turn, the main path's own included", minimum=1)
    futures: int = setting(
        2, "simulated futures of each of them; from 2 on they show how much of them is chance", minimum=1
    )
    horizon: float = setting(
        2.0,
        "turns of a future, fewer towards the end: min(ceil(horizon (T - t) / T), T - t) after turn t of T turns; "
        "as large as T: to the end of the dialogue",
        minimum=0,
    )
    share: float = setting(0.5, "share of the turns that are chosen, early ones more often", minimum=0, maximum=1)
    discount: float = setting(0.9, "gamma: weight of what happens a turn later", above=0, maximum=1)
    common_draws: bool = setting(
        True, "whether the siblings' futures share the policy's random draws, as they share the user's"
    )
    weigh: bool = setting(
        True, "whether what follows a reply's own turn counts only as much as it is seen not to be chance"
    )
    probes: int = setting(
        0,
        "answers to the question what it has learned about the user, sampled after the main path's replies of chosen "
        "turns; 2 or more are trained on",
        minimum=0,
    )
    probe_tokens: int = setting(256, "tokens of such an answer at most", minimum=1)
    batch: int = setting(16, "trees that grow together, turn by turn", minimum=1)
    reward: RewardSettings = section(RewardSettings, "what a turn is rewarded for")

    def ahead(self, turn: int) -> int:
        """H(t): how many turns the futures of the replies of this turn (from 1) have."""
        left = self.turns - turn
        return min(math.ceil(self.horizon * left / self.turns), left)

    @property
    def chosen(self) -> int:
        """How many turns have siblings: at least one, unless `share` is 0."""
        return max(self.share > 0, round(self.share * self.turns))

    @property
    def replies(self) -> int:
        """The replies of a tree at most: those of the main path, and at the chosen turns the other siblings and the
        turns of all futures but one, which is the main path, and the answers of probes."""
        beside = [
            self.siblings - 1 + (self.siblings * self.futures - 1) * self.ahead(turn) + self.probes
            for turn in range(1, self.turns + 1)
        ]
        return self.turns + sum(sorted(beside, reverse=True)[: self.chosen])
