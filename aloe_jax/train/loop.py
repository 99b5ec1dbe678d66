"""The training loop: batches in, steps, metrics and checkpoints out; continues where a killed run stopped.

The host is one step ahead of the devices: the metrics of a step are read when the next one is under way. Before a
checkpoint they are read at once, so that a state whose loss was not finite is never saved.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import optax
from etils import epath
from jax.sharding import Mesh

from aloe_jax import memory
from aloe_jax.data.pipeline import Batches, owned_rows, to_device
from aloe_jax.errors import AloeError, ResumableError
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params
from aloe_jax.parallel import hosts
from aloe_jax.train.checkpoints import Checkpoints
from aloe_jax.train.clock import Clock
from aloe_jax.train.forward import Compute
from aloe_jax.train.held_out import Measure, make_measure
from aloe_jax.train.metrics_log import MetricsLog
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.train.rounding import loss_tolerance
from aloe_jax.train.state import TrainState, abstract_state, create_state, learning_rate, make_optimizer
from aloe_jax.train.step import make_evaluation, make_step
from aloe_jax.train.stop import StopRequest
from aloe_jax.train.trace import Trace
from aloe_jax.train.work import Work, peak_flops, work_of

Progress = Callable[[int, int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Training:
    """What one training run is made of. `config` holds objective and its settings, learning_rate, schedule, warmup,
    clip_norm, b1, b2, weight_decay, checkpoint_every, keep, keep_every, async_checkpoint and measure_every; `logging`
    holds tensorboard, trace_from and trace_steps. `first_loss` is what the loss of the first step must be, if known."""

    model: ModelConfig
    config: Mapping[str, Any]
    compute: Compute
    batches: Batches
    mesh: Mesh
    directory: epath.Path
    first_loss: float | None = None
    seed: int = 0  # of adapters and their dropout
    held_out: Batches | None = None  # what is measured and not trained on
    logging: Mapping[str, Any] = field(default_factory=dict)


def train(
    training: Training,
    initial: Callable[[], Params],
    progress: Progress = lambda done, total, metrics: None,
    clock: Clock | None = None,
    stop: StopRequest | None = None,
) -> TrainState:
    """Train to the end of the plan and return the final state.

    `initial` gives the parameters at step 0, without adapters; where all of them are trained it is not called when a
    checkpoint is continued. `progress` hears of every step (steps done, steps in all, metrics); `clock` is left with
    the time since the last step's metrics. `stop` is entered already; without it signals are heard from the first step
    on. Raises AloeError for a loss that is not finite and for a first loss that is not what it must be, ResumableError
    if a signal asked to stop, after a checkpoint if there was a step.
    """
    config = training.config
    kept = config["keep"], config["keep_every"], config["async_checkpoint"]
    checkpoints = Checkpoints(training.directory / "checkpoints", *kept)
    with checkpoints:
        return _train(training, initial, progress, clock or Clock(), checkpoints, stop)


def _train(
    training: Training,
    initial: Callable[[], Params],
    progress: Progress,
    clock: Clock,
    checkpoints: Checkpoints,
    heard: StopRequest | None,
) -> TrainState:
    config, batches, mesh, steps = training.config, training.batches, training.mesh, len(training.batches)
    with clock.part("start"):
        state, position, start = _start(training, initial, checkpoints)
        work = work_of(batches, training.model, OBJECTIVES[config["objective"]].unit)
    iterator = batches.iterator(owned_rows(batches.rows, mesh))
    iterator.set_state(position)
    measure, step = _measure(training), None
    hearing = StopRequest(mesh) if heard is None else contextlib.nullcontext(heard)
    with hearing as stop, _trace(training) as trace, _log(training, start) as log:
        records = _Records(training, work, log, clock, progress)
        if start < steps:
            stop.check(f"before step {start + 1} of {steps} in '{training.directory}'")
        for number in range(start, steps):
            with clock.part("data"):
                rows = to_device(next(iterator), batches.rows, mesh)
                used = np.int32(batches.used(number))
            if step is None:
                with clock.part("compile"):
                    step = _step(training).lower(state, rows, used).compile()
                    memory.release()  # what the compiler took
            with trace.step(number + 1):
                state, metrics = step(state, rows, used)
            trace.done(number + 1, metrics)
            # A request that another process heard is known when the step's metrics are read, which is after the same
            # step on all of them. It is read once, so whatever reads must not forget it.
            stopping = records.read()
            asked = stop.anywhere()
            records.add(number, metrics, asked)
            stopping |= asked is True
            last = number + 1 == steps
            if measure is not None and (last or (number + 1) % config["measure_every"] == 0):
                jax.block_until_ready(metrics)  # the step's own time
                with clock.part("held_out"):
                    measured = measure(state)
                stopping |= records.read(measured)
            if last or stopping or (number + 1) % config["checkpoint_every"] == 0:
                stopping |= records.read()
                with clock.part("checkpoint"):
                    checkpoints.save(state, iterator.get_state())
            if stopping and not last:
                checkpoints.wait()
                raise ResumableError(
                    f"stopped after step {number + 1} of {steps} in '{training.directory}'; the same command continues"
                )
        with clock.part("checkpoint"):
            checkpoints.wait()
    return state


def _start(
    training: Training, initial: Callable[[], Params], checkpoints: Checkpoints
) -> tuple[TrainState, dict[str, Any], int]:
    """State, the iterator's state and the number of steps done: of the newest checkpoint, else of step 0."""
    optimizer = _optimizer(training)
    start = hosts.broadcast_from_primary(checkpoints.latest or 0)
    if not start:
        return create_state(initial(), training.model, optimizer, training.mesh, training.seed), {"next_index": 0}, 0
    abstract = abstract_state(training.model, optimizer, training.mesh)
    state, position = checkpoints.restore(abstract, start)
    if abstract.frozen:
        places = jax.tree.map(lambda leaf: leaf.sharding, abstract.frozen)
        state = state._replace(frozen=jax.device_put(initial(), places))
    return state, position, start


def _optimizer(training: Training) -> optax.GradientTransformation:
    return make_optimizer(training.config, len(training.batches))


def _step(training: Training) -> Any:
    t = training
    return make_step(t.model, t.config["objective"], t.config, t.compute, _optimizer(t), t.mesh, t.seed)


def _measure(training: Training) -> Measure | None:
    """What measures a state on the conversations that are held out; None if there are none."""
    t = training
    if t.held_out is None:
        return None
    return make_measure(
        make_evaluation(t.model, t.config["objective"], t.config, t.compute, t.mesh), t.held_out, t.mesh
    )


def _trace(training: Training) -> Trace:
    first, steps = (training.logging.get(name, 0) for name in ("trace_from", "trace_steps"))
    return Trace(training.directory / "trace", first, steps)


def _log(training: Training, start: int) -> MetricsLog:
    board = training.directory / "tensorboard" if training.logging.get("tensorboard") else None
    return MetricsLog(training.directory / "metrics.jsonl", start, board)


class _Records:
    """Turns the metrics of steps into lines of metrics.jsonl, one step late."""

    def __init__(self, training: Training, work: Work, log: MetricsLog, clock: Clock, progress: Progress) -> None:
        self._training, self._work, self._log, self._clock, self._progress = training, work, log, clock, progress
        self._rate = learning_rate(training.config, len(training.batches))
        self._peak = peak_flops(training.mesh)
        self._waiting: tuple[int, Mapping[str, jax.Array], bool | jax.Array] | None = None

    def add(self, number: int, metrics: Mapping[str, jax.Array], asked: bool | jax.Array) -> None:
        """The step that was just started, from 0, and whether a stop was asked for then."""
        self._waiting = number, metrics, asked

    def read(self, measured: Mapping[str, float] | None = None) -> bool:
        """Wait for the step that was added last, write its line, with what was `measured` after it, and tell whether a
        stop was asked for. False if it was read before."""
        if self._waiting is None:
            return False
        (number, metrics, asked), self._waiting = self._waiting, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        record = self._record(number, values | dict(measured or {}))
        _check(record, self._training, number)
        self._log.append(record)
        self._progress(number + 1, len(self._training.batches), record)
        return bool(asked)

    def _record(self, number: int, values: dict[str, float]) -> dict[str, Any]:
        """One line of metrics.jsonl. Steps count from 1: step n is the n-th update. Rates are by the time of steps
        and rows alone."""
        times, work = self._clock.read(), self._work
        working = max(times["step_seconds"] + times["data_seconds"], 1e-9)
        counts = {"tokens": work.tokens[number], "trained_tokens": work.trained_tokens[number]}
        rates = {f"{name}_per_second": round(count / working, 1) for name, count in counts.items()}
        if self._peak:
            rates["mfu"] = round(work.flops[number] / working / self._peak, 4)
        rounded = {name: round(seconds, 3) for name, seconds in times.items()}
        return {"step": number + 1, **values, "learning_rate": float(self._rate(number)), **counts, **rounded, **rates}


def _check(record: Mapping[str, Any], training: Training, number: int) -> None:
    loss, stage = record["loss"], training.directory.name
    if not math.isfinite(loss) or not math.isfinite(record["grad_norm"]):
        source, rows = training.batches.source, training.batches.plan.steps[number]
        owners = sorted({int(source.conversation[index]) for row in rows for index in row})
        raise AloeError(
            f"step {number + 1}: loss {loss}, gradient norm {record['grad_norm']}; conversations "
            f"{source.names(owners)}; start the stage over with --fresh and a lower config.{stage}.learning_rate or "
            "clip_norm, and look at these conversations if that does not help"
        )
    expected = training.first_loss
    if number > 0 or expected is None or record["weight"] == 0:
        return
    dtype, layers = training.compute.dtype, training.model.layers
    objective = training.config["objective"], training.config
    if abs(loss - expected) > (off := loss_tolerance(*objective, training.batches, dtype, layers, expected)):
        raise AloeError(
            f"first loss is {loss:.7f}, not {expected:.7f} as for a policy that equals its reference, up to {off:.2g} "
            f"in {dtype}: the step computes other log-probabilities than those in the stage's reference file; delete "
            "that file and run again, and if that changes nothing start the trainings over with --fresh and "
            "config.compute.attention=dense or config.compute.dtype=float32"
        )
