"""Objectives of replies that a policy sampled itself, with an advantage over their siblings.

The policy that sampled them is the old one, l_old its log-probabilities; `online` rounds fill them in anew, a training
on stored trees has the model that it starts from. All three are losses: what is to be maximised is negated.

A sum over replies or tokens is divided by a constant or a count of the whole batch, never by the tokens that happen to
be there, so long replies weigh no less per token than short ones (Dr. GRPO, arXiv 2503.20783).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from aloe_jax.train.objectives.metrics import largest_of_groups, summed
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.turns import turn_weight
from aloe_jax.train.objectives.types import Metrics, Objective, Pairs, Replies, Result
from aloe_jax.tree.prune import advantaged, hinted

# Nats beyond which a log-ratio is cut before its exponential: e^20 is past every clip, and f32 overflows at e^88, where
# a product with a gradient of 0 would be NaN.
LARGEST = 20.0


def tree_regression(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
    """Mean over groups of k siblings of 1/(k-1) sum_i ((D_i - mean D) / eta - (Q_i - mean Q) / sigma)^2, D = l - l_old.

    Least squares on what REFUEL regresses pair by pair (arXiv 2410.04612), with all siblings at once: for k = 2 half of
    REBEL's squared error (arXiv 2404.16767). Its minimum is the old policy tilted by e^(eta Q / sigma). An advantage is
    k/(k-1) (Q_i - mean Q) / sigma. At D = 0 the loss is the mean sample variance of Q / sigma.
    """
    known = _trained(replies)
    moved = jnp.where(known, _by_reply(replies.targets.log_prob - replies.targets.old, replies), 0.0)
    siblings = _siblings(replies, known)
    count = siblings.sum(axis=-1)  # [B, R], k of each reply's group
    mean = lambda values: (siblings * values[..., None, :]).sum(axis=-1) / jnp.maximum(count, 1)  # noqa: E731
    advantage = _advantage(replies, known)
    target = (advantage - mean(advantage)) * (count - 1) / jnp.maximum(count, 1)
    errors = jnp.square((moved - mean(moved)) / settings.eta - target)
    weight = turn_weight(replies.turn, settings) * (count > 1)
    metrics = _metrics(replies, known, settings)
    metrics |= _spread(replies) | _agreement(replies, _better(replies, siblings), moved, settings)
    losses = weight * errors / jnp.maximum(count - 1, 1)
    return losses.sum(), largest_of_groups(weight, replies.group).sum(), metrics


def policy_gradient(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
    """Minus the clipped surrogate (PPO, arXiv 1707.06347, with DAPO's two bounds, arXiv 2503.14476) of the replies'
    advantages, plus `kl_weight` x the divergence from the reference model.

    With `ratio="turn"` the tokens of a reply share the geometric mean of their ratios (GSPO, arXiv 2507.18071), and the
    reply counts as often as it has tokens; at the old policy both have the same gradient.
    """
    known = _trained(replies)
    advantage = _by_target(_advantage(replies, known), replies)
    log_ratio = replies.targets.log_prob - replies.targets.old
    if settings.ratio == "turn":
        log_ratio = _by_target(_by_reply(log_ratio, replies) / jnp.maximum(replies.length, 1), replies)
    total, weight, metrics = _surrogate(replies, known, advantage, log_ratio, settings)
    return total, weight, metrics | _spread(replies)


def distil(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
    """The clipped surrogate as above, with the advantage clip(l_hinted - l_old, -c, c) of each token, c = `hint_clip`.

    What a hint would change in the policy's own samples is learned without it; no judge is asked. The clip keeps the
    few tokens on which the hint decides from being all that counts.
    """
    targets = replies.targets
    told = ~jnp.isnan(targets.hinted)
    gain = jnp.where(told, targets.hinted - targets.old, 0.0)
    advantage = jnp.clip(gain, -settings.hint_clip, settings.hint_clip)
    known = (_by_reply(told.astype(jnp.float32), replies) > 0) & (replies.length > 0)
    total, weight, metrics = _surrogate(replies, known, advantage, targets.log_prob - targets.old, settings)
    inside = _by_target(known, replies)
    terms = {
        "hint_gain": (inside * gain, inside),
        "hint_clipped": (inside * (jnp.abs(gain) > settings.hint_clip), inside),
    }
    return total, weight, metrics | summed(terms, _by_target(replies.turn, replies), settings)


def of_own_replies(objective: Objective) -> Objective:
    """The objective with the metrics of a policy's own replies too: ratio, divergence, entropy."""
    if objective.by_token:
        return objective

    def function(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
        total, weight, metrics = objective(replies, pairs, settings)
        return total, weight, _metrics(replies, replies.length > 0, settings) | metrics

    return dataclasses.replace(objective, function=function)


def _surrogate(
    replies: Replies,
    known: Bool[Array, "B R"],
    advantage: Float[Array, "B M"],
    log_ratio: Float[Array, "B M"],
    settings: ObjectiveSettings,
) -> Result:
    """-sum over tokens of min(ratio A, clip(ratio) A) - kl_weight x k3, over `tokens_per_reply` for each reply."""
    weight = turn_weight(replies.turn, settings) * known
    ratio = _exp(log_ratio)
    bounded = jnp.clip(ratio, 1 - settings.clip_low, 1 + settings.clip_high)
    gain = jnp.minimum(ratio * advantage, bounded * advantage)
    losses = settings.kl_weight * _divergence(replies) - gain
    inside = _by_target(known, replies)
    clipped = {"clipped": (inside * (bounded * advantage < ratio * advantage), inside)}
    metrics = _metrics(replies, known, settings) | summed(clipped, _by_target(replies.turn, replies), settings)
    return jnp.sum(_by_target(weight, replies) * losses), settings.tokens_per_reply * weight.sum(), metrics


def _exp(log_ratio: Float[Array, "*S"]) -> Float[Array, "*S"]:
    return jnp.exp(jnp.clip(log_ratio, -LARGEST, LARGEST))


def _divergence(replies: Replies) -> Float[Array, "B M"]:
    """The estimator k3 of KL(policy | reference) at each token: e^d - d - 1, d = l_ref - l, never negative (Schulman
    2020, http://joschu.net/blog/kl-approx.html)."""
    off = jnp.clip(replies.targets.reference - replies.targets.log_prob, -LARGEST, LARGEST)
    return jnp.expm1(off) - off


def _trained(replies: Replies) -> Bool[Array, "B R"]:
    return ~jnp.isnan(replies.advantage) & (replies.length > 0)


def _advantage(replies: Replies, known: Bool[Array, "B R"]) -> Float[Array, "B R"]:
    return jnp.where(known, replies.advantage, 0.0)


def _siblings(replies: Replies, among: Bool[Array, "B R"]) -> Bool[Array, "B R R"]:
    """Entry [i, j]: both are in the same group, and `among` the replies."""
    same = replies.group[..., :, None] == replies.group[..., None, :]
    return same & among[..., :, None] & among[..., None, :]


def _by_target(values: Array, replies: Replies) -> Array:
    """The value of the reply that each target belongs to, 0 for padding."""
    numbers = values.astype(jnp.float32) if values.dtype == bool else values
    return jnp.take_along_axis(numbers, replies.targets.reply, axis=-1, mode="fill", fill_value=0)


def _by_reply(values: Float[Array, "B M"], replies: Replies) -> Float[Array, "B R"]:
    """Sums over the targets of each reply."""
    count = replies.length.shape[-1]
    total = lambda row, reply: jax.ops.segment_sum(row, reply, num_segments=count)  # noqa: E731
    return jax.vmap(total)(values, replies.targets.reply)


def _metrics(replies: Replies, known: Bool[Array, "B R"], settings: ObjectiveSettings) -> Metrics:
    """Means over the tokens of the trained replies, each also by turn: `ratio` to the old policy, `reference_kl` (k3),
    and `entropy`, if it was computed; and `ratio_max`, the largest ratio."""
    inside = _by_target(known, replies)
    ratio = inside * _exp(replies.targets.log_prob - replies.targets.old)
    terms = {"ratio": (ratio, inside), "reference_kl": (inside * _divergence(replies), inside)}
    metrics = summed(terms, _by_target(replies.turn, replies), settings)
    metrics["ratio_max"] = (ratio.max(initial=0.0), inside.max(initial=0.0))
    if replies.entropy is not None:
        metrics |= summed({"entropy": (known * replies.entropy, known * replies.length)}, replies.turn, settings)
    return metrics


def _better(replies: Replies, siblings: Bool[Array, "B R R"]) -> Bool[Array, "B R R"]:
    """Entry [i, j]: they are siblings, and i has the higher advantage; false if either has none."""
    return siblings & (replies.advantage[..., :, None] > replies.advantage[..., None, :])


def _spread(replies: Replies) -> Metrics:
    """`groups_without_spread`: the share of groups of siblings in which no advantage differs from another."""
    siblings = _siblings(replies, replies.length > 0)
    several = jnp.asarray(siblings.sum(axis=-1) > 1, jnp.float32)
    better = jnp.asarray(_better(replies, siblings).any(axis=-1), jnp.float32)
    groups, spread = (largest_of_groups(values, replies.group).sum() for values in (several, better))
    return {"groups_without_spread": (groups - spread, groups)}


def _agreement(
    replies: Replies, better: Bool[Array, "B R R"], moved: Float[Array, "B R"], settings: ObjectiveSettings
) -> Metrics:
    """`accuracy` over pairs of siblings: 1 where the one with the higher advantage gained more, 1/2 where both gained
    the same."""
    gained = moved[..., :, None] - moved[..., None, :]
    right = (gained > 0) + 0.5 * (gained == 0)
    weight = better.sum(axis=-1).astype(jnp.float32)
    return summed({"accuracy": ((better * right).sum(axis=-1), weight)}, replies.turn, settings)


_NO_ADVANTAGE = (
    "no reply of the dataset has an advantage; give the replies of trees.jsonl the field `advantage` and run the stage "
    "dataset with --fresh, or choose another objective"
)
_NO_HINT = "stored conversations have no log-probabilities given a hint; choose another objective"

ON_POLICY = {
    "tree_regression": Objective(
        tree_regression,
        unit="conversations",
        chooses=advantaged,
        needs_reference=True,
        by_token=True,
        reads=frozenset({"eta"}),
        weighs_sources=False,  # groups are counted alike
        lacking=_NO_ADVANTAGE,
    ),
    "policy_gradient": Objective(
        policy_gradient,
        unit="replies",
        chooses=advantaged,
        needs_reference=True,
        by_token=True,
        reads=frozenset({"ratio", "clip_low", "clip_high", "kl_weight", "tokens_per_reply"}),
        weighs_sources=False,  # replies are counted alike
        lacking=_NO_ADVANTAGE,
    ),
    "distil": Objective(
        distil,
        unit="replies",
        chooses=hinted,
        needs_reference=True,
        by_token=True,
        given_hints=True,
        reads=frozenset({"hint_clip", "clip_low", "clip_high", "kl_weight", "tokens_per_reply"}),
        weighs_sources=False,
        lacking=_NO_HINT,
    ),
}
