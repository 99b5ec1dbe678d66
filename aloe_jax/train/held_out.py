"""Held-out conversations: not trained on, but measured during training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from aloe_jax.data.pipeline import Batches, owned_rows, to_device
from aloe_jax.train.objectives import is_maximum
from aloe_jax.train.state import TrainState
from aloe_jax.train.step import Evaluate

PREFIX = "held_out_"
Measure = Callable[[TrainState], dict[str, float]]


def held_out(conversation: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which fragments are held out: bool [N], in whole conversations, `share` of them rounded down.

    `conversation` is int [N]. A pure function, so that every host, every resumed run and both trainings of a run hold
    out the same conversations.
    """
    owners = np.unique(conversation)
    # No epoch's shuffle has this key.
    drawn = np.random.default_rng([seed, 0, 0, 2]).permutation(owners)[: int(share * len(owners))]
    return np.isin(conversation, drawn)


@dataclass(frozen=True)
class HeldOut:
    """The batches that are measured and not trained on, after `every` so many steps and after the last one."""

    batches: Batches
    every: int


def make_measure(evaluate: Evaluate, batches: Batches, mesh: jax.sharding.Mesh) -> Measure:
    """A function from the train state to the mean loss and metrics over all of `batches`, without dropout; their names
    have the prefix `held_out_`."""

    def measure(state: TrainState) -> dict[str, float]:
        totals: dict[str, np.ndarray] = {}
        for step in range(len(batches)):
            rows = to_device(batches.local(step, owned_rows(batches.rows, mesh)), batches.rows, mesh)
            sums = jax.device_get(evaluate(state.params, state.frozen, rows, np.int32(batches.used(step))))
            pairs = {name: np.array(pair, np.float64) for name, pair in sums.items()}
            join = {name: np.maximum if is_maximum(name) else np.add for name in pairs}
            totals = {name: join[name](totals.get(name, np.zeros(2)), pair) for name, pair in pairs.items()}
        return {PREFIX + name: total / weight if weight else math.nan for name, (total, weight) in totals.items()}

    return measure
