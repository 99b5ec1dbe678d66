"""Training objectives: pure functions of per-reply log-probabilities, in a table (docs/objectives.md has the formulas).

Each takes (replies, pairs, config) and returns (loss sum, weight sum, metrics). Sums and weights stay apart to the end,
so that micro-batches, rows and hosts add up to the same mean as one large batch; a metric is a (sum, weight) pair too.
"""

from __future__ import annotations

from aloe_jax.train.objectives import pairwise as pair
from aloe_jax.train.objectives.listwise import LISTWISE
from aloe_jax.train.objectives.pairwise import pairwise
from aloe_jax.train.objectives.settings import check_settings
from aloe_jax.train.objectives.supervised import SFT
from aloe_jax.train.objectives.types import Metrics, Objective, Pairs, Replies

__all__ = ["OBJECTIVES", "Metrics", "Objective", "Pairs", "Replies", "check_settings"]

OBJECTIVES: dict[str, Objective] = {
    "sft": SFT,
    # arXiv 2305.18290, equation 7
    "dpo": pairwise(pair.implicit, pair.sigmoid, ("beta",)),
    # arXiv 2310.12036, equation 17, over lengths as its authors and TRL do
    "ipo": pairwise(pair.implicit_per_token, pair.squared, ("beta",)),
    # Mitchell 2023, "A note on DPO with noisy preferences"
    "cdpo": pairwise(pair.implicit, pair.smoothed, ("beta", "label_smoothing")),
    # arXiv 2403.00409
    "robust_dpo": pairwise(pair.implicit, pair.unbiased, ("beta", "label_smoothing")),
    # RSO, arXiv 2309.06657, the hinge loss of SLiC on implicit rewards
    "hinge": pairwise(pair.implicit, pair.hinge, ("beta",)),
    # Tulu 3, arXiv 2411.15124, section 5
    "dpo_norm": pairwise(pair.implicit_per_token, pair.sigmoid, ("beta",)),
    # arXiv 2404.19733, equation 1
    "rpo": pairwise(pair.implicit, pair.sigmoid, ("beta", "nll_weight"), lambda config: config["nll_weight"]),
    # arXiv 2405.14734, equation 6
    "simpo": pairwise(pair.log_prob_per_token, pair.sigmoid_beyond, ("beta", "gamma"), needs_reference=False),
    # arXiv 2403.07691, equations 6 and 7; beta is its lambda
    "orpo": pairwise(pair.log_odds, pair.scaled_sigmoid, ("beta",), lambda config: 1.0, needs_reference=False),
    "listwise": LISTWISE,
}
