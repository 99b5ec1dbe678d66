"""Supervised fine-tuning."""

from __future__ import annotations

import jax.numpy as jnp

from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.turns import by_turn, turn_weight
from aloe_jax.train.objectives.types import Metrics, Objective, Pairs, Replies, Result
from aloe_jax.tree.prune import weighted


def sft(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
    """Mean negative log-probability of the weighted tokens (ALOE, arXiv 2410.03642, section 3)."""
    scale = turn_weight(replies.turn, settings)
    metrics: Metrics = by_turn("loss", -replies.weighted_log_prob, replies.weight, replies.turn, settings)
    if replies.entropy is not None:
        trained = replies.weight > 0
        total, count = trained * replies.entropy, trained * replies.length
        metrics["entropy"] = (total.sum(), count.sum())
        metrics |= by_turn("entropy", total, count, replies.turn, settings)
    return -jnp.sum(scale * replies.weighted_log_prob), jnp.sum(scale * replies.weight), metrics


SUPERVISED = {"sft": Objective(sft, unit="conversations", chooses=weighted)}
