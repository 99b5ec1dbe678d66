"""Training objectives: pure functions of per-reply log-probabilities, in a table.

Each takes (replies, pairs, config) and returns (loss sum, weight sum, metrics). Sums and weights stay apart to the end,
so that micro-batches, rows and hosts add up to the same mean as one large batch; a metric is a (sum, weight) pair too.

Axes: B rows, R replies a row, P pairs a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Replies(NamedTuple):
    """What is known of each reply; padding replies have length 0."""

    log_prob: Float[Array, "B R"]  # sum over all its tokens, given its path
    weighted_log_prob: Float[Array, "B R"]  # sum of weight x log-prob over its tokens
    weight: Float[Array, "B R"]  # sum of its tokens' weights
    reference: Float[Array, "B R"]  # log_prob under the frozen reference model
    length: Int[Array, "B R"]  # tokens


class Pairs(NamedTuple):
    """Index of the chosen and the rejected reply in the same row; padding pairs have weight 0."""

    index: Int[Array, "B P 2"]
    weight: Float[Array, "B P"]


Metrics = dict[str, tuple[Array, Array]]
Objective = Callable[[Replies, Pairs, Mapping[str, Any]], tuple[Array, Array, Metrics]]


def sft(replies: Replies, pairs: Pairs, config: Mapping[str, Any]) -> tuple[Array, Array, Metrics]:
    """Supervised fine-tuning: mean negative log-probability of the weighted tokens (paper, section 3)."""
    return -replies.weighted_log_prob.sum(), replies.weight.sum(), {}


def dpo(replies: Replies, pairs: Pairs, config: Mapping[str, Any]) -> tuple[Array, Array, Metrics]:
    """Direct preference optimisation, sigmoid loss (arXiv 2305.18290, equation 7), mean over pairs.

    `config["beta"]` scales the implicit reward, beta x (log-prob - reference log-prob).
    """
    chosen_log_prob, rejected_log_prob = _by_pair(replies.log_prob, pairs)
    rewards = config["beta"] * (replies.log_prob - replies.reference)
    chosen, rejected = _by_pair(rewards, pairs)
    margin = chosen - rejected
    weight = pairs.weight.sum()
    mean = lambda value: (jnp.sum(pairs.weight * value), weight)  # noqa: E731
    metrics = {
        "accuracy": mean(margin > 0),
        "reward_margin": mean(margin),
        "reward_chosen": mean(chosen),
        "reward_rejected": mean(rejected),
        "log_prob_chosen": mean(chosen_log_prob),
        "log_prob_rejected": mean(rejected_log_prob),
    }
    return -jnp.sum(pairs.weight * jax.nn.log_sigmoid(margin)), weight, metrics


def _by_pair(value: Float[Array, "B R"], pairs: Pairs) -> tuple[Float[Array, "B P"], Float[Array, "B P"]]:
    chosen, rejected = (jnp.take_along_axis(value, pairs.index[..., side], axis=1) for side in (0, 1))
    return chosen, rejected


OBJECTIVES: dict[str, Objective] = {"sft": sft, "dpo": dpo}
# What a batch is counted in, and whether reference log-probabilities are needed.
UNIT: dict[str, Literal["conversations", "pairs"]] = {"sft": "conversations", "dpo": "pairs"}
NEEDS_REFERENCE = frozenset({"dpo"})
