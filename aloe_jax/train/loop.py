"""The training loop: batches in, steps, metrics and checkpoints out; an interrupted run continues where it stopped.

The host is one step ahead of the devices: the metrics of a step are read while the next one runs (`records.py`). Before
a checkpoint they are read at once, so that a state whose loss is not finite is never saved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import optax
from etils import epath
from jax.sharding import Mesh

from aloe_jax import memory
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params
from aloe_jax.parallel import hosts
from aloe_jax.run.progress import Line, quiet, time_of_day
from aloe_jax.train.checkpoints import Checkpoints
from aloe_jax.train.clock import Clock
from aloe_jax.train.feed import START, Fed, Feed
from aloe_jax.train.forward import Compute
from aloe_jax.train.goodput import add_start
from aloe_jax.train.held_out import PREFIX, HeldOut, Measure, make_measure
from aloe_jax.train.hooks import AfterStep, Hooks
from aloe_jax.train.interval import Interval
from aloe_jax.train.metrics_log import METRICS, MetricsLog
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.records import Records, Report
from aloe_jax.train.settings import LoggingSettings, LoopSettings
from aloe_jax.train.stall import StallWatch
from aloe_jax.train.state import TrainState, abstract_state, create_state
from aloe_jax.train.step import Step, make_evaluation, make_step
from aloe_jax.train.stop import StopRequest, stopped
from aloe_jax.train.trace import Trace
from aloe_jax.train.trackers import open_trackers


@dataclass(frozen=True)
class Training:
    """Everything that one training run needs. `commit` is called before each checkpoint, which later calls take to have
    the metrics of all steps before it."""

    model: ModelConfig
    settings: LoopSettings
    compute: Compute
    feed: Feed
    mesh: Mesh
    directory: epath.Path
    seed: int = 0  # of the adapters and their dropout
    held_out: HeldOut | None = None
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    commit: Callable[[], None] = lambda: None

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser, with its schedule over all steps of the plan."""
        return make_optimizer(self.settings, len(self.feed))


def train(
    training: Training,
    initial: Callable[[], Params],
    report: Report = lambda done, total, record: None,
    clock: Clock | None = None,
    stop: StopRequest | None = None,
    line: Line = quiet,
) -> TrainState:
    """Train to the end of the plan and return the final state.

    `initial` returns the parameters at step 0, without adapters; if all of them are trained, it is not called when
    continuing from a checkpoint. `report` is called after every step with the steps done, the steps in all and the line
    of metrics.jsonl. After the return, `clock` holds the time since the last step's metrics. `stop` has been entered by
    the caller; without it, signals are caught from the first step on. `line` displays where the training
    continues, and what was verified of that checkpoint.

    Raises AloeError for a loss that is not finite and for an unexpected first loss, and ResumableError if a signal
    requested a stop, after saving a checkpoint if a step was done.
    """
    settings = training.settings
    kept = settings.keep, settings.keep_every, settings.async_checkpoint, line
    with Checkpoints(training.directory / "checkpoints", *kept) as checkpoints:
        return _train(training, initial, report, clock or Clock(), checkpoints, stop, line)


def _train(
    training: Training,
    initial: Callable[[], Params],
    report: Report,
    clock: Clock,
    checkpoints: Checkpoints,
    stop: StopRequest | None,
    line: Line,
) -> TrainState:
    """The training, given its checkpoints."""
    mesh, steps = training.mesh, len(training.feed)
    compiled: dict[int, Step] = {}  # by the number of micro-batches
    with clock.part("start"):
        state, position, start = _start(training, initial, checkpoints)
        feeding = training.feed.open(training, position)
    if start:
        saved = time_of_day(checkpoints.saved_at(start))
        line(f"{training.directory.name}: continuing from step {start} of {steps} (checkpoint of {saved})")
    entered = StopRequest(mesh) if stop is None else contextlib.nullcontext(stop)
    with (
        entered as stop,
        _trace(training) as trace,
        _log(training, start, clock.began) as log,
        StallWatch(training.logging.stall_seconds) as watch,
    ):
        clock.also(watch.part)
        records = Records(training, log, clock, report, stop)
        hooks = _hooks(training, trace, records, checkpoints, feeding.position, clock)
        _make_up(training, state, start, log, clock)
        number = start
        if not feeding.over():
            stop.check(f"before step {start + 1} of {steps} in '{training.directory}'")
        while not feeding.over():
            number += 1
            with clock.part("data"):
                fed = feeding.next(number, state)
            if (micro_batches := len(fed.rows.tokens)) not in compiled:
                with clock.part("compile"):
                    compiled[micro_batches] = _compile(training, state, fed)
            watch.step(number)
            with trace.step(number):
                state, metrics = compiled[micro_batches](state, fed.rows, fed.used)
            if hooks.run(AfterStep(number, state, metrics, fed, last=feeding.over())):
                checkpoints.wait()
                hosts.wait_for_primary()  # which writes the digests; the end of one process is that of all
                raise stopped(f"after step {number} of {steps} in '{training.directory}'")
        with clock.part("checkpoint"):
            checkpoints.wait()
        stop.check(f"after step {number} of {steps} in '{training.directory}'")
    return state


def _hooks(
    training: Training,
    trace: Trace,
    records: Records,
    checkpoints: Checkpoints,
    position: Callable[[], dict[str, int]],
    clock: Clock,
) -> Hooks:
    """Everything that happens after a step, in this order."""
    settings, measure = training.settings, _measure(training)
    interval = Interval(settings.checkpoint_minutes)

    def measure_held_out(step: AfterStep) -> bool:
        jax.block_until_ready(step.metrics)  # so that the step's time is not counted as measuring
        assert measure is not None
        if records.stopping():  # on another process, or while the step ran
            return True
        with clock.part("held_out"):
            measured = measure(step.state)
        return records.read(measured)

    def save(step: AfterStep) -> bool:
        stopping = records.read()
        with clock.part("checkpoint"):
            training.commit()
            checkpoints.save(step.state, position())
        interval.restart()
        return stopping

    hooks = Hooks()
    hooks.add(trace.after)
    hooks.add(records.after)
    if training.held_out is not None:
        hooks.add(measure_held_out, every=training.held_out.every, at_end=True, can_wait=True)
    hooks.add(save, every=settings.checkpoint_every, at_end=True, at_stop=True, when=interval.over)
    return hooks


def _make_up(training: Training, state: TrainState, step: int, log: MetricsLog, clock: Clock) -> None:
    """Measure the state of the checkpoint where the measurement after its step gave way to a signal."""
    held_out, measure = training.held_out, _measure(training)
    if not step or held_out is None or measure is None or log.has(f"{PREFIX}loss"):
        return
    if step % held_out.every and step != len(training.feed):
        return
    with clock.part("held_out"):
        log.amend(measure(state))


def _start(
    training: Training, initial: Callable[[], Params], checkpoints: Checkpoints
) -> tuple[TrainState, dict[str, int], int]:
    """The train state, the iterator's state and the steps done: from the newest checkpoint, else at step 0."""
    optimizer = training.optimizer
    start = hosts.broadcast_from_primary(checkpoints.latest or 0)
    if not start:
        return create_state(initial(), training.model, optimizer, training.mesh, training.seed), dict(START), 0
    abstract = abstract_state(training.model, optimizer, training.mesh)
    state, position = checkpoints.restore(abstract, start)
    if abstract.frozen:
        places = jax.tree.map(lambda leaf: leaf.sharding, abstract.frozen)
        state = state._replace(frozen=jax.device_put(initial(), places))
    return state, position, start


def _compile(training: Training, state: TrainState, fed: Fed) -> Step:
    t = training
    step = make_step(t.model, t.settings, t.compute, t.optimizer, t.mesh, t.seed)
    compiled = step.lower(state, fed.rows, fed.used).compile()
    memory.release()  # of the compiler
    return compiled


def _measure(training: Training) -> Measure | None:
    """The function that measures a state on the held-out conversations; None if there are none."""
    t = training
    if t.held_out is None:
        return None
    return make_measure(make_evaluation(t.model, t.settings, t.compute, t.mesh), t.held_out.batches, t.mesh)


def _trace(training: Training) -> Trace:
    return Trace(training.directory / "trace", training.logging.trace_from, training.logging.trace_steps)


def _log(training: Training, start: int, began: float) -> MetricsLog:
    if hosts.is_primary():
        add_start(training.directory, began, start)
    trackers = open_trackers(training.logging, training.directory, start) if hosts.is_primary() else []
    return MetricsLog(training.directory / METRICS, start, trackers)
