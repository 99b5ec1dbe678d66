"""The settings that objectives read from the section of a training, whichever training it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aloe_jax.settings import setting


@dataclass(frozen=True)
class ObjectiveSettings:
    """The objective and its settings. Those that it does not read keep their defaults (`check_objective`).

    `on_policy` says whether the replies are the policy's own, whose log-probabilities by token are known."""

    on_policy: ClassVar[bool] = False
    objective: str = setting("dpo", "the loss: one of docs/objectives.md")
    turn_weights: tuple[float, ...] = setting(
        (),
        "weights of turns 1, 2, ... in the loss; the last one holds for all later turns; empty: 1 everywhere",
        minimum=0,
        holds=lambda weights: not weights or any(weights),
        expected="numbers of at least 0, not all 0",
    )
    turn_buckets: int = setting(
        10, "turns with metrics of their own, the last one together with all later turns; 0: none", minimum=0
    )
    entropy: bool = setting(True, "also measure the policy's entropy over the tokens of replies")
    beta: float = setting(0.9, "strength of the pull towards the reference model", above=0, expected="more than 0")
    margin: float = setting(
        0.0, "factor of the judges' margin, by which the rewards of a pair have to differ", minimum=0
    )
    label_smoothing: float = setting(
        0.1,
        "cdpo, robust_dpo: assumed probability that a preference is wrong",
        minimum=0,
        below=0.5,
        expected="at least 0 and less than 0.5",
    )
    nll_weight: float = setting(1.0, "rpo: weight of the chosen replies' negative log-probability per token", minimum=0)
    gamma: float = setting(0.5, "simpo: target margin between the rewards of a pair", minimum=0)
    ranking: str = setting(
        "value",
        "listwise: rank siblings by their value, or by the preferences",
        holds=lambda ranking: ranking in ("value", "preferences"),
        expected="one of value, preferences",
    )
    desirable_weight: float = setting(
        1.0, "apo_zero_unpaired: factor of the loss of good replies", above=0, expected="more than 0"
    )
    undesirable_weight: float = setting(
        1.0, "apo_zero_unpaired: factor of the loss of bad replies", above=0, expected="more than 0"
    )
    eta: float = setting(
        1.0,
        "tree_regression: log-probability that a reply gains on its siblings per spread that its value is above theirs",
        above=0,
        expected="more than 0",
    )
    ratio: str = setting(
        "token",
        "policy_gradient: clip the ratio to the old policy of each token, or the geometric mean of a turn's",
        holds=lambda ratio: ratio in ("token", "turn"),
        expected="one of token, turn",
    )
    clip_low: float = setting(
        0.2, "policy_gradient, distil: how far below 1 a ratio counts", above=0, below=1, expected="between 0 and 1"
    )
    clip_high: float = setting(
        0.28, "policy_gradient, distil: how far above 1 a ratio counts", above=0, expected="more than 0"
    )
    kl_weight: float = setting(
        0.001, "policy_gradient, distil: weight of the divergence from the reference model", minimum=0
    )
    tokens_per_reply: int = setting(
        64, "policy_gradient, distil: constant that the sum over a reply's tokens is divided by", minimum=1
    )
    hint_clip: float = setting(
        1.0, "distil: the most that a hint counts at a token, in nats", above=0, expected="more than 0"
    )


# What every objective reads.
SHARED = frozenset({"objective", "turn_weights", "turn_buckets", "entropy"})
