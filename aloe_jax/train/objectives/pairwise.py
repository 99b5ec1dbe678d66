"""Losses of pairs: each combines a reward of a reply with a loss of the margin between chosen and rejected reward.

With m = reward(chosen) - reward(rejected) - settings.margin x the pair's own margin, the loss is the mean of loss(m)
over pairs; RPO and ORPO add the chosen reply's negative log-probability per token. The pair's margin is that of the
judges (2p - 1); subtracting it requires a wider gap where they were more certain (Llama 2, arXiv 2307.09288, equation
2; DPO with an offset, arXiv 2402.10571).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aloe_jax.train.objectives.metrics import comparison_metrics
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.turns import turn_weight
from aloe_jax.train.objectives.types import Objective, Pairs, Replies, Result
from aloe_jax.tree.prune import compared

Reward = Callable[[Replies, ObjectiveSettings], Float[Array, "B R"]]
MarginLoss = Callable[[Float[Array, "*S"], ObjectiveSettings], Float[Array, "*S"]]
# Minimum of -log p in the odds p / (1 - p) of a mean token probability p: closer to 1, f32 loses 1 - p.
MIN_SURPRISE = 1e-6


def per_token(values: Float[Array, "B R"], replies: Replies) -> Float[Array, "B R"]:
    """`values` divided by the replies' lengths; 0 for padding."""
    return values / jnp.maximum(replies.length, 1)


def implicit(replies: Replies, settings: ObjectiveSettings) -> Float[Array, "B R"]:
    """beta x (log-prob - reference log-prob), DPO's implicit reward."""
    return settings.beta * (replies.log_prob - replies.reference)


def implicit_per_token(replies: Replies, settings: ObjectiveSettings) -> Float[Array, "B R"]:
    """DPO's implicit reward divided by the reply's length."""
    return per_token(implicit(replies, settings), replies)


def log_prob_per_token(replies: Replies, settings: ObjectiveSettings) -> Float[Array, "B R"]:
    """beta x mean log-probability per token, SimPO's reward."""
    return settings.beta * per_token(replies.log_prob, replies)


def log_odds(replies: Replies, settings: ObjectiveSettings) -> Float[Array, "B R"]:
    """log(p / (1 - p)) with p the geometric mean of the tokens' probabilities, which ORPO compares."""
    surprise = -per_token(replies.log_prob, replies)
    return -surprise - jax.nn.log1mexp(jnp.maximum(surprise, MIN_SURPRISE))


def sigmoid(margin: Float[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """-log sigmoid(m): the Bradley-Terry likelihood of the preference."""
    return -jax.nn.log_sigmoid(margin)


def smoothed(margin: Float[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """Cross-entropy with a judge that is wrong with probability `label_smoothing`."""
    noise = settings.label_smoothing
    return (1 - noise) * sigmoid(margin, settings) + noise * sigmoid(-margin, settings)


def unbiased(margin: Float[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """The loss whose mean over labels flipped with probability e (`label_smoothing`) equals that of the true labels.

    With l(m) = -log sigmoid(m) it is ((1 - e) l(m) - e l(-m)) / (1 - 2 e). Since l(-m) = l(m) + m, that is
    l(m) - m e / (1 - 2 e), which cancels nothing as e approaches 1/2.
    """
    noise = settings.label_smoothing
    return sigmoid(margin, settings) - margin * (noise / (1 - 2 * noise))


def hinge(margin: Float[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """max(0, 1 - m)."""
    return jax.nn.relu(1 - margin)


def squared(margin: Float[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """(m / beta - 1 / (2 beta))^2: IPO pulls the log-ratios' difference to 1 / (2 beta)."""
    return jnp.square((margin - 0.5) / settings.beta)


def sigmoid_beyond(margin: Float[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """-log sigmoid(m - gamma)."""
    return sigmoid(margin - settings.gamma, settings)


def scaled_sigmoid(margin: Float[Array, "*S"], settings: ObjectiveSettings) -> Float[Array, "*S"]:
    """-beta log sigmoid(m)."""
    return settings.beta * sigmoid(margin, settings)


def pairwise(
    reward: Reward,
    loss: MarginLoss,
    nll_weight: Callable[[ObjectiveSettings], float] | None = None,
    needs_reference: bool = True,
    reads: tuple[str, ...] = (),
) -> Objective:
    """The objective with a reward and a loss of margins, plus `nll_weight` x the chosen replies' negative
    log-probability per token. `reads` are the settings that it depends on besides `beta` and `margin`."""

    def function(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
        pick = lambda values: _by_pair(values, pairs)  # noqa: E731
        rewards = reward(replies, settings)
        chosen, rejected = pick(rewards)
        losses = loss(chosen - rejected - settings.margin * pairs.margin, settings)
        if nll_weight is not None:
            losses -= nll_weight(settings) * pick(per_token(replies.log_prob, replies))[0]
        weight = pairs.weight * turn_weight(pick(replies.turn)[0], settings)
        metrics = comparison_metrics(replies, rewards, pick, pairs.weight, settings, needs_reference)
        return jnp.sum(weight * losses), weight.sum(), metrics

    def first_loss(settings: ObjectiveSettings) -> float | None:
        """loss(0): a policy that equals the reference has the same reward for every reply."""
        if not needs_reference or nll_weight is not None or settings.margin:
            return None
        return float(loss(jnp.zeros(()), settings))

    read = frozenset({"beta", "margin", *reads})
    return Objective(function, "pairs", compared, needs_reference, reads=read, first_loss=first_loss)


def _by_pair(values: Array, pairs: Pairs) -> tuple[Array, Array]:
    """Values of replies [B, R] -> values of the chosen and of the rejected reply of each pair [B, P]."""
    chosen, rejected = (jnp.take_along_axis(values, pairs.index[..., side], axis=1) for side in (0, 1))
    return chosen, rejected


PAIRWISE = {
    # arXiv 2305.18290, equation 7
    "dpo": pairwise(implicit, sigmoid),
    # arXiv 2310.12036, equation 17, over lengths as its authors and TRL do
    "ipo": pairwise(implicit_per_token, squared),
    # Mitchell 2023, "A note on DPO with noisy preferences"
    "cdpo": pairwise(implicit, smoothed, reads=("label_smoothing",)),
    # arXiv 2403.00409
    "robust_dpo": pairwise(implicit, unbiased, reads=("label_smoothing",)),
    # RSO, arXiv 2309.06657, the hinge loss of SLiC on implicit rewards
    "hinge": pairwise(implicit, hinge),
    # Tulu 3, arXiv 2411.15124, section 5
    "dpo_norm": pairwise(implicit_per_token, sigmoid),
    # arXiv 2404.19733, equation 1
    "rpo": pairwise(implicit, sigmoid, lambda settings: settings.nll_weight, reads=("nll_weight",)),
    # arXiv 2405.14734, equation 6
    "simpo": pairwise(log_prob_per_token, sigmoid_beyond, needs_reference=False, reads=("gamma",)),
    # arXiv 2403.07691, equations 6 and 7; beta is its lambda
    "orpo": pairwise(log_odds, scaled_sigmoid, lambda settings: 1.0, needs_reference=False),
}
