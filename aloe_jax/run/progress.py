"""The display of a running command: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

Line = Callable[[str], None]  # displays a line
LINE_EVERY = 10.0  # seconds between plain lines


class _Bars(RichProgress):
    """Progress bars with a panel below them."""

    panel: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.panel is not None:
            yield self.panel


@dataclass(frozen=True)
class _Count:
    """The units being counted. A stage may count several kinds, one after the other."""

    unit: str
    total: int
    first: int  # units done when counting began
    began: float


class Progress:
    """Shows counts, rates and the remaining time of the running stage."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars: _Bars | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._began = self._last_line = 0.0
        self._count: _Count | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show one stage, from its start to its end or failure."""
        self._name, self._began, self._last_line, self._count = name, time.monotonic(), 0.0, None
        if self.console.is_terminal:
            self._bars = _Bars(
                SpinnerColumn(),
                TextColumn("[bold]{task.description:<13}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[what]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bars.add_task(name, total=None, what="")
            self._bars.start()
        else:
            self.line(f"{name}: started")
        try:
            yield
        finally:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None
        self.line(f"{name}: done in {duration(time.monotonic() - self._began)}")

    def update(self, done: int, total: int, what: str) -> None:
        """Show `done` of `total` units. `what` names the unit and, after a comma, figures: `steps, loss 0.69`."""
        now = time.monotonic()
        if self._count is None or (self._count.total, self._count.unit) != (total, what.split(",")[0]):
            self._count = _Count(what.split(",")[0], total, done, now)
        fresh, elapsed = done - self._count.first, now - self._count.began
        rate = f", {_figures(60 * fresh / elapsed)} a minute" if fresh and elapsed else ""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total, what=what + rate)
        elif now - self._last_line >= LINE_EVERY or done == total:
            self._last_line = now
            left = f", {duration(elapsed / fresh * (total - done))} left" if fresh and done < total else ""
            self.line(f"{self._name}: {done}/{total} {what}{rate}{left}")

    def show(self, panel: RenderableType) -> None:
        """Show a panel below the bar, replacing the previous one; without a terminal, nothing."""
        if self._bars is not None:
            self._bars.panel = panel

    def skipped(self, name: str) -> None:
        """Print that a stage was finished before."""
        self.line(f"{name}: finished before, skipped")

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _figures(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds in hours, minutes and seconds: "1 h 05 min", "2 min 00 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def quiet(line: str) -> None:
    """Display nothing."""
