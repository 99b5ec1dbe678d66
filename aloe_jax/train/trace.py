"""A profiler trace of some steps, for xprof or TensorBoard's profile page."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

import jax
from etils import epath

from aloe_jax.train.hooks import AfterStep


class Trace:
    """Writes a trace of `steps` steps from step `first` (from 1; 0: none) to `directory`. Use in a `with` block."""

    def __init__(self, directory: epath.Path, first: int, steps: int) -> None:
        self._directory = directory
        self._steps = range(first, first + steps) if first else range(0)
        self._running = False

    def step(self, number: int) -> AbstractContextManager[object]:
        """A context for dispatching step `number`; starts the trace if the step is its first."""
        if number in self._steps and not self._running:
            jax.profiler.start_trace(str(self._directory))
            self._running = True
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def after(self, step: AfterStep) -> bool:
        """Hook: end the trace when the metrics of its last step are computed. Never requests a stop."""
        if self._running and step.number >= self._steps[-1]:
            jax.block_until_ready(step.metrics)
            self._end()
        return False

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
