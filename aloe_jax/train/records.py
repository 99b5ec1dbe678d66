"""Lines of metrics.jsonl from the metrics of steps, one step late, and the checks of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import jax

from aloe_jax.errors import AloeError
from aloe_jax.train.clock import Clock
from aloe_jax.train.hooks import AfterStep
from aloe_jax.train.metrics_log import MetricsLog, Record
from aloe_jax.train.optimizer import learning_rate
from aloe_jax.train.rounding import loss_tolerance
from aloe_jax.train.stop import StopRequest
from aloe_jax.train.work import Work, peak_flops

if TYPE_CHECKING:
    from aloe_jax.train.loop import Training

Report = Callable[[int, int, Record], None]  # steps done, steps in all, the line of metrics.jsonl


class Records:
    """Reads the metrics of a step when the next one is under way, checks them and writes their line."""

    def __init__(
        self, training: Training, work: Work, log: MetricsLog, clock: Clock, report: Report, stop: StopRequest
    ) -> None:
        self._training, self._work, self._log, self._clock = training, work, log, clock
        self._report, self._stop = report, stop
        self._rate = learning_rate(training.settings, len(training.batches))
        self._peak = peak_flops(training.mesh)
        self._waiting: tuple[AfterStep, bool | jax.Array] | None = None

    def after(self, step: AfterStep) -> bool:
        """Read the step before and keep this one; returns whether a stop was asked for.

        A request that another process received is known when the step's metrics are read, which is after the same step
        on all of them. It is read once, so no caller of `read` may drop the result.
        """
        stopping = self.read()
        asked = self._stop.anywhere()
        self._waiting = step, asked
        return stopping or asked is True

    def read(self, measured: Mapping[str, float] | None = None) -> bool:
        """Wait for the step that was kept, write its line, with what was `measured` after it, and return whether a stop
        was asked for. False if it was read before."""
        if self._waiting is None:
            return False
        (step, asked), self._waiting = self._waiting, None
        values = {name: float(value) for name, value in jax.device_get(step.metrics).items()}
        record = self._record(step.number, values | dict(measured or {}))
        _check(record, self._training, step.number)
        self._log.append(record)
        self._report(step.number, len(self._training.batches), record)
        return bool(asked)

    def _record(self, number: int, values: Mapping[str, float]) -> dict[str, float]:
        """One line of metrics.jsonl. Rates are by the time of steps and rows alone."""
        times, work = self._clock.read(), self._work
        working = max(times["step_seconds"] + times["data_seconds"], 1e-9)
        counts = {"tokens": work.tokens[number - 1], "trained_tokens": work.trained_tokens[number - 1]}
        rates = {f"{name}_per_second": round(count / working, 1) for name, count in counts.items()}
        if self._peak:
            rates["mfu"] = round(work.flops[number - 1] / working / self._peak, 4)
        rounded = {name: round(seconds, 3) for name, seconds in times.items()}
        return {"step": number, **values, "learning_rate": float(self._rate(number - 1)), **counts, **rounded, **rates}


def _check(record: Record, training: Training, number: int) -> None:
    loss, stage = record["loss"], training.directory.name
    if not math.isfinite(loss) or not math.isfinite(record["grad_norm"]):
        source, rows = training.batches.source, training.batches.plan.steps[number - 1]
        owners = sorted({int(source.conversation[index]) for row in rows for index in row})
        raise AloeError(
            f"step {number}: loss {loss}, gradient norm {record['grad_norm']}; conversations "
            f"{source.names(owners)}; start the stage over with --fresh and a lower config.{stage}.learning_rate or "
            "clip_norm, and look at these conversations if that does not help"
        )
    expected = training.first_loss
    if number > 1 or expected is None or record["weight"] == 0:
        return
    dtype, layers = training.compute.dtype, training.model.layers
    if abs(loss - expected) > (off := loss_tolerance(training.settings, training.batches, dtype, layers, expected)):
        raise AloeError(
            f"first loss is {loss:.7f}, not {expected:.7f} as for a policy that equals its reference, up to {off:.2g} "
            f"in {dtype}: the step computes other log-probabilities than those in the stage's reference file; delete "
            "that file and run again, and if that changes nothing start the trainings over with --fresh and "
            "config.compute.attention=dense or config.compute.dtype=float32"
        )
