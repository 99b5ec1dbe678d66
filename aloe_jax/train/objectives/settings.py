"""What objectives read of the section of a training."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting


@dataclass(frozen=True)
class ObjectiveSettings:
    """What every objective reads."""

    objective: str = setting("sft", "one of docs/objectives.md")
    turn_weights: tuple[float, ...] = setting(
        (),
        "of turn 1, 2, ...; the last one holds for all later turns; empty: 1 everywhere",
        minimum=0,
        holds=lambda weights: not weights or any(weights),
        expected="numbers of at least 0, not all 0",
    )
    turn_buckets: int = setting(10, "turns that metrics tell apart; the last one takes in all later turns", minimum=0)
    entropy: bool = setting(True, "measure the policy's entropy where it predicts replies")


@dataclass(frozen=True)
class PairSettings(ObjectiveSettings):
    """What objectives read that compare replies."""

    objective: str = setting("dpo", "one of docs/objectives.md")
    beta: float = setting(0.9, "strength of the pull towards the reference model", above=0, expected="more than 0")
    margin: float = setting(
        0.0, "times the judges' margin of a pair: how much further surer pairs are asked to part", minimum=0
    )
    label_smoothing: float = setting(
        0.1,
        "cdpo, robust_dpo: how often the judge is taken to be wrong",
        minimum=0,
        below=0.5,
        expected="at least 0 and less than 0.5",
    )
    nll_weight: float = setting(1.0, "rpo: of the chosen replies' negative log-probability per token", minimum=0)
    gamma: float = setting(0.5, "simpo: the margin between rewards that is asked for", minimum=0)
    ranking: str = setting(
        "value",
        "listwise: siblings are ranked by their value, or by the preferences",
        holds=lambda ranking: ranking in ("value", "preferences"),
        expected="one of value, preferences",
    )
