"""Lines of metrics.jsonl from the metrics of the steps, read one step late, and the checks of each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import jax

from aloe_jax.errors import AloeError
from aloe_jax.train.clock import Clock
from aloe_jax.train.feed import Fed
from aloe_jax.train.hooks import AfterStep
from aloe_jax.train.metrics_log import MetricsLog, Record
from aloe_jax.train.optimizer import learning_rate
from aloe_jax.train.stop import StopRequest
from aloe_jax.train.work import peak_flops

if TYPE_CHECKING:
    from aloe_jax.train.loop import Training

Report = Callable[[int, int, Record], None]  # steps done, steps in all, the line of metrics.jsonl


class Records:
    """Reads the metrics of a step while the next one runs, checks them and writes their line."""

    def __init__(self, training: Training, log: MetricsLog, clock: Clock, report: Report, stop: StopRequest) -> None:
        self._training, self._log, self._clock = training, log, clock
        self._report, self._stop = report, stop
        self._rate = learning_rate(training.settings, len(training.feed))
        self._peak = peak_flops(training.mesh)
        self._pending: tuple[AfterStep, bool | jax.Array] | None = None

    def after(self, step: AfterStep) -> bool:
        """Read the previous step and keep this one; returns whether a stop was requested.

        A request that another process received is known when the step's metrics are read, which happens after the same
        step on all processes. It is read only once, so no caller of `read` may drop the result.
        """
        stopping = self.read()
        requested = self._stop.anywhere()
        self._pending = step, requested
        return stopping or requested is True

    def stopping(self) -> bool:
        """Whether a stop was requested up to the kept step, which is complete on the devices."""
        return self._pending is not None and bool(self._pending[1])

    def read(self, measured: Mapping[str, float] | None = None) -> bool:
        """Wait for the kept step and write its line, with the metrics `measured` after it; returns whether a stop was
        requested. False if the step has been read already."""
        if self._pending is None:
            return False
        (step, requested), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(step.metrics).items()}
        record = self._record(step, values | dict(step.fed.measured) | dict(measured or {}))
        _check(record, self._training, step.number, step.fed)
        self._log.append(record)
        self._report(step.number, len(self._training.feed), record)
        return bool(requested)

    def _record(self, step: AfterStep, values: Mapping[str, float]) -> dict[str, float]:
        """One line of metrics.jsonl. Rates count only the time of the steps and of waiting for rows."""
        times, work, number = self._clock.read(), step.fed.work, step.number
        seconds = max(times["step_seconds"] + times["data_seconds"], 1e-9)
        counts = {"tokens": work.tokens, "trained_tokens": work.trained_tokens}
        rates = {f"{name}_per_second": round(count / seconds, 1) for name, count in counts.items()}
        if self._peak:
            rates["mfu"] = round(work.flops / seconds / self._peak, 4)
        rounded = {name: round(value, 3) for name, value in times.items()}
        when = {"step": number, "time": round(time.time(), 3)}
        return {**when, **values, "learning_rate": float(self._rate(number - 1)), **counts, **rounded, **rates}


def _check(record: Record, training: Training, number: int, fed: Fed) -> None:
    loss, stage = record["loss"], training.directory.name
    finite = math.isfinite(loss) or not record["weight"]  # a mean over nothing is NaN
    if not finite or not math.isfinite(record["grad_norm"]):
        raise AloeError(
            f"step {number}: loss {loss}, gradient norm {record['grad_norm']}; conversations {fed.names()}; start the "
            f"stage over with --fresh and a lower config.{stage}.learning_rate or clip_norm, and look at these "
            "conversations if that does not help"
        )
    if fed.expected is None or record["weight"] == 0:
        return
    expected, off, remedy = fed.expected
    if abs(loss - expected) > off:
        which = "first loss" if number == 1 else f"loss of step {number}"
        raise AloeError(
            f"{which} is {loss:.7f}, not {expected:.7f} as for a policy that equals its reference, up to {off:.2g} in "
            f"{training.compute.dtype}: {remedy}"
        )
