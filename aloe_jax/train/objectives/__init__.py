"""Training objectives: pure functions of per-reply log-probabilities, in a table (docs/objectives.md has the formulas).

Each takes (replies, pairs, settings) and returns (loss sum, weight sum, metrics). Sums and weights stay separate to the
end, so that micro-batches, rows and hosts give the same mean as one large batch; a metric is a (sum, weight) pair too.
A new objective is an entry here and, if no loss or reward of `pairwise.py` fits, a function beside them.
"""

from __future__ import annotations

from aloe_jax.errors import InputError
from aloe_jax.train.objectives import pairwise as pair
from aloe_jax.train.objectives.listwise import LISTWISE
from aloe_jax.train.objectives.pairwise import pairwise
from aloe_jax.train.objectives.settings import ObjectiveSettings, PairSettings
from aloe_jax.train.objectives.supervised import SFT
from aloe_jax.train.objectives.types import Metrics, Objective, Pairs, Replies

__all__ = ["OBJECTIVES", "Metrics", "Objective", "Pairs", "Replies", "check_objective", "objective_of"]

OBJECTIVES: dict[str, Objective] = {
    "sft": SFT,
    # arXiv 2305.18290, equation 7
    "dpo": pairwise(pair.implicit, pair.sigmoid),
    # arXiv 2310.12036, equation 17, over lengths as its authors and TRL do
    "ipo": pairwise(pair.implicit_per_token, pair.squared),
    # Mitchell 2023, "A note on DPO with noisy preferences"
    "cdpo": pairwise(pair.implicit, pair.smoothed),
    # arXiv 2403.00409
    "robust_dpo": pairwise(pair.implicit, pair.unbiased),
    # RSO, arXiv 2309.06657, the hinge loss of SLiC on implicit rewards
    "hinge": pairwise(pair.implicit, pair.hinge),
    # Tulu 3, arXiv 2411.15124, section 5
    "dpo_norm": pairwise(pair.implicit_per_token, pair.sigmoid),
    # arXiv 2404.19733, equation 1
    "rpo": pairwise(pair.implicit, pair.sigmoid, lambda settings: settings.nll_weight),
    # arXiv 2405.14734, equation 6
    "simpo": pairwise(pair.log_prob_per_token, pair.sigmoid_beyond, needs_reference=False),
    # arXiv 2403.07691, equations 6 and 7; beta is its lambda
    "orpo": pairwise(pair.log_odds, pair.scaled_sigmoid, lambda settings: 1.0, needs_reference=False),
    "listwise": LISTWISE,
}


def objective_of(settings: ObjectiveSettings) -> Objective:
    """The objective named by the settings."""
    return OBJECTIVES[settings.objective]


def check_objective(settings: ObjectiveSettings, section: str) -> None:
    """Raise InputError if the settings of the training `config.SECTION` name no objective, or one that does not suit
    them."""
    if settings.objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise InputError(f"config.{section}.objective: '{settings.objective}' is unknown; choose one of {known}")
    objective = objective_of(settings)
    if objective.compares and not isinstance(settings, PairSettings):
        raise InputError(
            f"config.{section}.objective: '{settings.objective}' compares replies, whose settings stand in "
            "config.preference; set it there"
        )
    if isinstance(settings, PairSettings) and settings.margin and not objective.takes_margin:
        raise InputError(
            f"config.{section}.margin: {settings.margin} has no meaning for the objective '{settings.objective}', "
            "which compares no pairs; set it to 0"
        )
