"""The training loop: batches in, steps, metrics and checkpoints out; continues where a killed run stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from aloe_jax.data.pipeline import Batches, owned_rows, to_device
from aloe_jax.errors import AloeError
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params
from aloe_jax.train.checkpoints import Checkpoints
from aloe_jax.train.forward import Compute
from aloe_jax.train.metrics_log import MetricsLog
from aloe_jax.train.state import TrainState, abstract_state, create_state, learning_rate, make_optimizer
from aloe_jax.train.step import make_step

FIRST_LOSS_TOLERANCE = 1e-5  # absolute, of a loss around 1; relative for larger ones


@dataclass(frozen=True)
class Training:
    """What one training run is made of. `config` holds objective and its settings, learning_rate, schedule, warmup,
    clip_norm, b1, b2, weight_decay and checkpoint_every. `first_loss` is what the loss of the first step must be, if
    that is known."""

    model: ModelConfig
    config: Mapping[str, Any]
    compute: Compute
    batches: Batches
    mesh: Mesh
    directory: epath.Path
    first_loss: float | None = None
    seed: int = 0  # of adapters and their dropout


def train(
    training: Training,
    initial: Callable[[], Params],
    progress: Callable[[int, int, Mapping[str, Any]], None] = lambda done, total, metrics: None,
) -> TrainState:
    """Train to the end of the plan and return the final state.

    `initial` gives the parameters at step 0, without adapters; where all of them are trained it is not called when a
    checkpoint is continued. `progress` hears of every step (steps done, steps in all, metrics). Raises AloeError for a
    loss that is not finite and for a first loss that is not what it must be.
    """
    with Checkpoints(training.directory / "checkpoints") as checkpoints:
        return _train(training, initial, progress, checkpoints)


def _train(
    training: Training,
    initial: Callable[[], Params],
    progress: Callable[[int, int, Mapping[str, Any]], None],
    checkpoints: Checkpoints,
) -> TrainState:
    batches, mesh, steps = training.batches, training.mesh, len(training.batches)
    optimizer = make_optimizer(training.config, steps)
    start = checkpoints.latest
    if start is None:
        start, position = 0, {"next_index": 0}
        state = create_state(initial(), training.model, optimizer, mesh, training.seed)
    else:
        abstract = abstract_state(training.model, optimizer, mesh)
        state, position = checkpoints.restore(abstract)
        if abstract.frozen:
            places = jax.tree.map(lambda leaf: leaf.sharding, abstract.frozen)
            state = state._replace(frozen=jax.device_put(initial(), places))
    log = MetricsLog(training.directory / "metrics.jsonl", start)
    objective = training.config["objective"]
    step = make_step(training.model, objective, training.config, training.compute, optimizer, mesh, training.seed)
    rate = learning_rate(training.config, steps)
    iterator = batches.iterator(*owned_rows(batches.rows, mesh))
    iterator.set_state(position)
    for number in range(start, steps):
        began = time.monotonic()
        rows = to_device(next(iterator), batches.rows, mesh)
        state, metrics = step(state, rows, jnp.asarray(batches.used(number)))
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        record = _record(number, values, float(rate(number)), batches.tokens(number), time.monotonic() - began)
        _check(record, training, number)
        log.append(record)
        progress(number + 1, steps, record)
        if (number + 1) % training.config["checkpoint_every"] == 0 or number + 1 == steps:
            checkpoints.save(state, iterator.get_state())
    return state


def _record(number: int, values: dict[str, float], rate: float, tokens: int, seconds: float) -> dict[str, Any]:
    """One line of metrics.jsonl. Steps count from 1: step n is the n-th update."""
    times = {"seconds": round(seconds, 3), "tokens_per_second": round(tokens / seconds, 1)}
    return {"step": number + 1, **values, "learning_rate": rate, "tokens": tokens, **times}


def _check(record: Mapping[str, Any], training: Training, number: int) -> None:
    loss = record["loss"]
    if not math.isfinite(loss) or not math.isfinite(record["grad_norm"]):
        batches = training.batches
        ids = sorted({int(batches.source.conversation[f]) for row in batches.plan.steps[number] for f in row})
        raise AloeError(f"step {number + 1}: loss {loss}, gradient norm {record['grad_norm']}; conversations {ids}")
    expected = training.first_loss
    if number > 0 or expected is None or record["weight"] == 0:
        return
    if abs(loss - expected) > FIRST_LOSS_TOLERANCE * max(1.0, expected):
        raise AloeError(
            f"first loss is {loss:.7f}, not {expected:.7f} as for a policy that equals its reference: the stored "
            "reference log-probabilities are not of this model; delete the stage's reference file and run again"
        )
