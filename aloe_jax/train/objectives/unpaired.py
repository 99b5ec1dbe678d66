"""Losses of single replies with a label, good or bad, that need no other reply to compare with.

APO-zero in the form for unpaired replies (arXiv 2408.06266, equation 7, as TRL's `KTOTrainer` splits it): with r DPO's
implicit reward, a good reply has the loss 1 - sigmoid(r), a bad one sigmoid(r). KTO itself also subtracts an estimate
of the KL divergence, made of prompts with other prompts' replies; this loss has no such term.

A reply's label comes from its record, or from the pairs: good if it is only ever chosen, bad if only ever rejected.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from aloe_jax.train.objectives.metrics import summed
from aloe_jax.train.objectives.pairwise import implicit
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.turns import turn_weight
from aloe_jax.train.objectives.types import Metrics, Objective, Pairs, Replies, Result
from aloe_jax.tree.prune import labelled


def apo_zero_unpaired(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
    """Mean of sigmoid(-label x reward) over the replies with a label.

    As in TRL the mean is over the number of replies; `desirable_weight` and `undesirable_weight` are factors of the
    losses alone.
    """
    rewards = implicit(replies, settings)
    factor = jnp.where(replies.label > 0, settings.desirable_weight, settings.undesirable_weight)
    losses = factor * jax.nn.sigmoid(-replies.label * rewards)
    weight = turn_weight(replies.turn, settings) * (replies.label != 0)
    return jnp.sum(weight * losses), weight.sum(), _metrics(replies, rewards, settings)


def _metrics(replies: Replies, rewards: jax.Array, settings: ObjectiveSettings) -> Metrics:
    """Means over the replies with a label, as (sum, weight), each also by turn: `accuracy`, 1 where the reward has the
    sign of the label and 1/2 where it is 0; `reward_*`, `log_prob_*` and `log_prob_drift_*` of the good (`chosen`) and
    the bad (`rejected`) ones; `entropy` of their tokens, if it was computed."""
    known = jnp.asarray(replies.label != 0, jnp.float32)
    agreed = replies.label * rewards
    terms = {"accuracy": (known * ((agreed > 0) + 0.5 * (agreed == 0)), known)}
    drift = replies.log_prob - replies.reference
    for name, values in (("reward", rewards), ("log_prob", replies.log_prob), ("log_prob_drift", drift)):
        for side, sign in (("chosen", 1), ("rejected", -1)):
            here = jnp.asarray(replies.label == sign, jnp.float32)
            terms[f"{name}_{side}"] = (here * values, here)
    if replies.entropy is not None:
        terms["entropy"] = (known * replies.entropy, known * replies.length)
    return summed(terms, replies.turn, settings)


def _first_loss(settings: ObjectiveSettings) -> float | None:
    """The factor times sigmoid(0), if good and bad replies have the same one."""
    return settings.desirable_weight / 2 if settings.desirable_weight == settings.undesirable_weight else None


UNPAIRED = {
    "apo_zero_unpaired": Objective(
        apo_zero_unpaired,
        unit="replies",
        chooses=labelled,
        needs_reference=True,
        reads=frozenset({"beta", "desirable_weight", "undesirable_weight"}),
        weighs_sources=False,  # replies are counted alike
        first_loss=_first_loss,
    )
}
