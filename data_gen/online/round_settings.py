"""`config.online`: rounds of rolling out trees with the current policy and learning from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aloe_jax.settings import section, setting
from aloe_jax.train.names import ONLINE, PREFERENCE, SFT
from aloe_jax.train.settings import LoopSettings
from data_gen.online.settings import RolloutSettings


@dataclass(frozen=True)
class AlarmSettings:
    """What stops the rounds with a sentence, each measured over one round; 0 switches it off."""

    entropy: float = setting(0.0, "mean entropy of a token, in nats, below which they stop", minimum=0, decides=False)
    reference_kl: float = setting(
        0.5, "divergence of a token from the reference model, in nats, above which they stop", minimum=0, decides=False
    )
    words: float = setting(200.0, "mean words of a reply above which they stop", minimum=0, decides=False)
    repetition: float = setting(
        0.5, "share of a reply that an earlier one said, on average, above which they stop", minimum=0, decides=False
    )
    truncated: float = setting(
        0.5, "share of replies cut off at `max_tokens` above which they stop", minimum=0, decides=False
    )
    silent: float = setting(0.05, "share of empty user messages above which they stop", minimum=0, decides=False)
    unread: float = setting(
        0.05,
        "share of user messages that the inducer's server refuses for good above which they stop",
        minimum=0,
        decides=False,
    )
    sampler_gap: float = setting(
        0.1,
        "mean difference of a token's log-probability between engine and trainer, in nats, above which they stop",
        minimum=0,
        decides=False,
    )
    flat: float = setting(
        0.95,
        "share of groups of siblings that do not differ in value, or of replies with an advantage of 0, above which "
        "they stop",
        minimum=0,
        decides=False,
    )
    unscored: float = setting(
        0.5, "share of replies without a readable verdict of the judge above which they stop", minimum=0, decides=False
    )
    top_score: float = setting(
        0.95, "share of scored replies with the judge's top score above which they stop", minimum=0, decides=False
    )
    one_part: float = setting(
        1.5,
        "how many times as much as the whole reward one part of it may rise since the first rounds; above 1 other "
        "parts fall",
        minimum=0,
        decides=False,
    )


@dataclass(frozen=True)
class OnlineSettings(LoopSettings):
    """On-policy training: its start and reference, its method, how many rounds, and how many trees each."""

    on_policy: ClassVar[bool] = True
    objective: str = setting("tree_regression", "the loss: one of docs/objectives.md")
    start: str = setting(
        PREFERENCE,
        "sft, preference, base, the folder of a training of another run, or any model of the same shape",
        holds=lambda start: start not in ("", ONLINE),
        expected="sft, preference, base or a model",
    )
    reference: str = setting(
        SFT,
        "the model that the policy is kept close to, named as `start` is; read by objectives that have `kl_weight` and "
        "by those of pairs",
    )
    method: str = setting("siblings", "what replies learn from: one of docs/online.md")
    rounds: int = setting(50, "rounds, of one update each", minimum=1)
    budget: int = setting(
        0, "sampled tokens of all rounds; the round that uses them up is the last one; 0: no limit", minimum=0
    )
    trees: int = setting(32, "trees per round", minimum=1)
    per_persona: int = setting(
        0, "trees of a persona in a round; 0: as the method needs them, 4 with chain and 1 with others", minimum=0
    )
    max_tokens: int = setting(64, "tokens of a reply at most", minimum=1)
    checkpoint_every: int = setting(
        1,
        "rounds between checkpoints; one that is lost is computed again from its stored trees",
        minimum=1,
        decides=False,
    )
    keep_trees: int = setting(
        5, "rounds whose trees are kept, and all since the last checkpoint; 0: all", minimum=0, decides=False
    )
    rollout: RolloutSettings = section(RolloutSettings, "the trees of a round")
    alarm: AlarmSettings = section(AlarmSettings, "what stops the rounds")

    @property
    def kept(self) -> int:
        """The last rounds whose trees stay, 0 for all: those of `keep_trees`, and the rounds that a loss of what is
        written last, which may be a checkpoint, would have computed again."""
        return self.keep_trees and max(self.keep_trees, self.checkpoint_every + 1)
