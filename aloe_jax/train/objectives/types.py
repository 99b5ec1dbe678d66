"""The type of an objective, its inputs and its results.

Axes: B rows, M targets per row, R replies per row, P pairs per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Array, Float, Int

from aloe_jax.data.plan import Unit
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.tree.prune import Chooses


class Targets(NamedTuple):
    """Log-probabilities of each target token, given its path; padding belongs to reply R, which there is not."""

    log_prob: Float[Array, "B M"]
    old: Float[Array, "B M"]  # under the policy that sampled it
    reference: Float[Array, "B M"]  # under the frozen reference model
    hinted: Float[Array, "B M"]  # under the policy that sampled it, given a hint; NaN where there is none
    reply: Int[Array, "B M"]  # the reply that it belongs to


class Replies(NamedTuple):
    """Quantities of each reply; padding replies have length 0."""

    log_prob: Float[Array, "B R"]  # sum over all its tokens, given its path
    weighted_log_prob: Float[Array, "B R"]  # sum of weight x log-prob over its tokens
    weight: Float[Array, "B R"]  # sum of its tokens' weights
    reference: Float[Array, "B R"]  # log_prob under the frozen reference model
    length: Int[Array, "B R"]  # tokens
    turn: Int[Array, "B R"]  # assistant turn from 1
    group: Int[Array, "B R"]  # shared by siblings, unique within a row
    label: Float[Array, "B R"]  # +1 good, -1 bad, 0 neither
    value: Float[Array, "B R"]  # backed-up value; NaN where there is none
    advantage: Float[Array, "B R"]  # over its siblings; NaN where there is none
    entropy: Float[Array, "B R"] | None  # sum over its tokens, in nats; None unless settings.entropy
    targets: Targets


class Pairs(NamedTuple):
    """Index of the chosen and the rejected reply in the same row; padding pairs have weight 0."""

    index: Int[Array, "B P 2"]
    weight: Float[Array, "B P"]
    margin: Float[Array, "B P"]  # the judges' 2p - 1, in (0, 1]


Metrics = dict[str, tuple[Array, Array]]  # name -> (sum, weight); the name of a maximum ends in `_max`
Result = tuple[Float[Array, ""], Float[Array, ""], Metrics]  # loss sum, weight sum, metrics
Function = Callable[[Replies, Pairs, ObjectiveSettings], Result]


def is_maximum(name: str) -> bool:
    """Whether two batches have the larger value of a metric together, instead of the sum of both."""
    return name.endswith("_max")


def _unknown(settings: ObjectiveSettings) -> None:
    return None


@dataclass(frozen=True)
class Objective:
    """An entry of the table of objectives.

    Attributes:
        function: a pure function of per-reply log-probabilities.
        unit: the unit of the batch size.
        chooses: the replies of a fragment that it trains on; no others are computed.
        lacking: what stored conversations lack if there are none of these replies, and the remedy; empty: it is said
            in general words.
        needs_reference: whether reference log-probabilities are read.
        by_token: whether those of single targets are read, of the policy that sampled them too.
        given_hints: whether the policy's given a hint are read.
        reads: the settings that its loss depends on beside those of every objective (`SHARED`); others must keep their
            defaults.
        weighs_sources: whether it multiplies by the `loss_weight` of a reply's source.
        first_loss: the loss while policy and reference are the same model; None where it depends on the data.
    """

    function: Function
    unit: Unit
    chooses: Chooses
    needs_reference: bool = False
    by_token: bool = False
    given_hints: bool = False
    reads: frozenset[str] = frozenset()
    weighs_sources: bool = True
    lacking: str = ""
    first_loss: Callable[[ObjectiveSettings], float | None] = field(default=_unknown)

    def __call__(self, replies: Replies, pairs: Pairs, settings: ObjectiveSettings) -> Result:
        """The function's result."""
        return self.function(replies, pairs, settings)
