"""Replies and pairs of one row from lists, and settings for every objective."""

import math

import jax.numpy as jnp
import numpy as np

from aloe_jax.train.objectives import Pairs, Replies, Targets
from aloe_jax.train.objectives.settings import ObjectiveSettings

SETTINGS = ObjectiveSettings(
    beta=0.5, label_smoothing=0.2, gamma=0.5, nll_weight=0.7, turn_buckets=2, turn_weights=(1.0, 0.5)
)


def plain(**changes):
    """Settings without turn weights and metrics by turn, except for `changes`."""
    return ObjectiveSettings(**{"turn_buckets": 0} | changes)


def replies(log_prob, reference=None, **columns):
    """One row [1, R]. By default the reference is 0, replies are one token long, all in turn 1, siblings without value,
    advantage or label, weight 1 and the weighted log-probability as it is.

    The tokens of a reply share its log-probability, and that under the old policy, by default the reference's, alike.
    """
    count = len(log_prob)
    default = {"weight": [1.0] * count, "reference": [0.0] * count, "length": [1] * count, "turn": [1] * count}
    default |= {"group": [0] * count, "label": [0.0] * count}
    default |= {"value": [math.nan] * count, "advantage": [math.nan] * count}
    given = default | ({} if reference is None else {"reference": reference}) | columns
    old = given.pop("old", given["reference"])
    targets = targets_of(given["length"], log_prob, old, given["reference"], given.pop("hinted", [math.nan] * count))
    given.setdefault("weighted_log_prob", [w * lp for w, lp in zip(given["weight"], log_prob, strict=True)])
    integers = {"length", "turn", "group"}
    arrays = {name: jnp.asarray([values], int if name in integers else float) for name, values in given.items()}
    return Replies(log_prob=jnp.asarray([log_prob], float), targets=targets, **{"entropy": None} | arrays)


def targets_of(length, *of_replies):
    """The targets of one row [1, M] whose replies' log-probabilities are given, with at least 8 targets per reply."""
    length = np.asarray(length, int)
    room = max(8 * len(length) - int(length.sum()), 0)
    each = [np.repeat(np.asarray(values, float) / np.maximum(length, 1), length) for values in of_replies]
    arrays = (jnp.asarray([np.pad(values, (0, room))], float) for values in each)
    reply = np.concatenate([np.repeat(np.arange(len(length)), length), np.full(room, len(length))])
    return Targets(*arrays, jnp.asarray([reply], int))


def with_log_prob(given, log_prob):
    """The row of one-token replies with other log-probabilities [1, R]."""
    room = given.targets.reply.shape[1] - log_prob.shape[1]
    targets = given.targets._replace(log_prob=jnp.pad(log_prob, [(0, 0), (0, room)]))
    return given._replace(log_prob=log_prob, weighted_log_prob=log_prob, targets=targets)


def pairs(*index, weight=None, margin=None):
    """Pairs (chosen, rejected) of one row [1, P]; weight and margin are 1 by default."""
    ones = [1.0] * len(index)
    return Pairs(
        jnp.asarray([index], int).reshape(1, -1, 2), jnp.asarray([weight or ones], float), jnp.asarray([margin or ones])
    )


def means(metrics):
    """(sum, weight) pairs as means."""
    return {name: float(total / weight) for name, (total, weight) in metrics.items()}


def random_row(seed):
    """Six replies of two groups, each ranked without ties, with pairs and labels that agree with the ranking."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 9, 6)
    given = replies(
        list(-rng.uniform(0.1, 3, 6) * length), list(-rng.uniform(0.1, 3, 6) * length), length=list(length),
        turn=[1, 1, 1, 2, 2, 2], group=[0, 0, 0, 1, 1, 1], value=[3.0, 2.0, 1.0, 5.0, 1.5, 4.0],
        label=[1, 0, -1, 1, -1, 0], weight=[1.0, 0.0, 0.0, 2.0, 0.0, 0.5], entropy=list(rng.uniform(0, 2, 6) * length),
        advantage=[1.5, 0.0, -1.5, 2.0, -2.0, math.nan], hinted=list(-rng.uniform(0.1, 3, 6) * length),
    )  # fmt: skip
    return given, pairs((0, 1), (0, 2), (1, 2), (3, 5), (3, 4), (5, 4), margin=list(rng.uniform(0.1, 1, 6)))
