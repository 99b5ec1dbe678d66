"""The list-wise loss: every reply against all siblings that rank below it.

For replies ranked without ties this is the Plackett-Luce likelihood of the ranking (DPO, arXiv 2305.18290, appendix
A.3; ListMLE in LiPO, arXiv 2402.01878), for two replies it is DPO. Ties and partial orders need no special case: a
sibling that does not rank below does not compete.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from aloe_jax.train.objectives.metrics import comparison_metrics, largest_of_groups
from aloe_jax.train.objectives.pairwise import implicit
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.objectives.turns import turn_weight
from aloe_jax.train.objectives.types import Objective, Pairs, Replies, Result
from aloe_jax.tree.prune import ranked

Ranking = Callable[[Replies, Pairs], Bool[Array, "B R R"]]


def by_value(replies: Replies, pairs: Pairs) -> Bool[Array, "B R R"]:
    """Entry [i, j]: j is a sibling of i with a lower value. Replies without a value are left out."""
    siblings = replies.group[..., :, None] == replies.group[..., None, :]
    return siblings & (replies.value[..., :, None] > replies.value[..., None, :])  # false if either is NaN


def by_preferences(replies: Replies, pairs: Pairs) -> Bool[Array, "B R R"]:
    """Entry [i, j]: i was preferred to j."""
    count = replies.length.shape[-1]

    def table(index: Array, weight: Array) -> Array:
        return jnp.zeros((count, count)).at[index[:, 0], index[:, 1]].add(weight) > 0

    return jax.vmap(table)(pairs.index, pairs.weight)


RANKINGS: dict[str, Ranking] = {"value": by_value, "preferences": by_preferences}


def listwise(replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
    """Mean over lists of sum_i log(1 + sum of e^(r_j - r_i) over the j ranked below i), r DPO's implicit reward.

    A list consists of the replies to one message, at least two of which differ in rank by `settings.ranking`.
    """
    rewards = implicit(replies, settings)
    better = RANKINGS[settings.ranking](replies, pairs)
    gap = jnp.where(better, rewards[..., None, :] - rewards[..., :, None], -jnp.inf)
    losses = jax.nn.logsumexp(jnp.concatenate([jnp.zeros_like(gap[..., :1]), gap], axis=-1), axis=-1)
    scale = turn_weight(replies.turn, settings)
    metrics = comparison_metrics(replies, rewards, _pick, better.astype(jnp.float32), settings, needs_reference=True)
    return jnp.sum(scale * losses), _lists(better, scale, replies), metrics


def _lists(better: Bool[Array, "B R R"], scale: Float[Array, "B R"], replies: Replies) -> Float[Array, ""]:
    """Sum of the turn weights of all lists. Siblings belong to the same turn, so the maximum is the weight of each."""
    ranked = jnp.where(better.any(axis=-1), scale, 0.0)
    return largest_of_groups(ranked, replies.group).sum()


def _pick(values: Float[Array, "B R"]) -> tuple[Float[Array, "B R 1"], Float[Array, "B 1 R"]]:
    return values[..., :, None], values[..., None, :]


LISTWISE = {
    "listwise": Objective(
        listwise,
        unit="conversations",
        chooses=ranked,
        needs_reference=True,
        reads=frozenset({"beta", "ranking"}),
        weighs_sources=False,  # lists are counted alike
    )
}
