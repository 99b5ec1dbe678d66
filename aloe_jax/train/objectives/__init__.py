"""Training objectives: pure functions of per-reply log-probabilities, in a table (docs/objectives.md has the formulas).

Each takes (replies, pairs, settings) and returns (loss sum, weight sum, metrics). Sums and weights stay separate to the
end, so that micro-batches, rows and hosts give the same mean as one large batch; a metric is a (sum, weight) pair too.
A new objective is an entry of the table at the end of one of the files here (CONTRIBUTING.md).
"""

from __future__ import annotations

import dataclasses

from aloe_jax.errors import InputError
from aloe_jax.train.objectives.listwise import LISTWISE
from aloe_jax.train.objectives.on_policy import ON_POLICY, of_own_replies
from aloe_jax.train.objectives.pairwise import PAIRWISE
from aloe_jax.train.objectives.settings import SHARED, ObjectiveSettings
from aloe_jax.train.objectives.supervised import SUPERVISED
from aloe_jax.train.objectives.types import Metrics, Objective, Pairs, Replies, Targets, is_maximum
from aloe_jax.train.objectives.unpaired import UNPAIRED

__all__ = [
    "OBJECTIVES",
    "Metrics",
    "Objective",
    "Pairs",
    "Replies",
    "Targets",
    "check_objective",
    "is_maximum",
    "objective_of",
]

OBJECTIVES: dict[str, Objective] = {
    **SUPERVISED,
    **PAIRWISE,
    **LISTWISE,
    **UNPAIRED,
    **ON_POLICY,
}


def objective_of(settings: ObjectiveSettings) -> Objective:
    """The objective named by the settings."""
    found = OBJECTIVES[settings.objective]
    return of_own_replies(found) if settings.on_policy else found


def check_objective(settings: ObjectiveSettings, section: str) -> None:
    """Raise InputError if the settings of the training `config.SECTION` name no objective, or one that does not suit
    them."""
    if settings.objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise InputError(f"config.{section}.objective: '{settings.objective}' is unknown; choose one of {known}")
    objective = objective_of(settings)
    for field in dataclasses.fields(ObjectiveSettings):
        value = getattr(settings, field.name)
        if field.name in SHARED | objective.reads or value == field.default:
            continue
        readers = ", ".join(name for name, one in OBJECTIVES.items() if field.name in one.reads)
        raise InputError(
            f"config.{section}.{field.name}: {value} has no meaning for the objective '{settings.objective}'; set it "
            f"to {field.default}, or the objective to one of {readers}"
        )
