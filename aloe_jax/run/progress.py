"""What a person sees while a run works: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

LINE_EVERY = 10.0  # seconds between plain lines


class Progress:
    """Counts, rates and time left of the stage that runs."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._began = self._last_line = 0.0
        self._first: int | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The display of one stage, from its start to its end or failure."""
        self._name, self._began, self._last_line, self._first = name, time.monotonic(), 0.0, None
        if self.console.is_terminal:
            self._bars = Bars(
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
        self.line(f"{name}: done in {_duration(time.monotonic() - self._began)}")

    def update(self, done: int, total: int, what: str) -> None:
        """`done` of `total` units; `what` says what they are and how it goes, for example `steps, loss 0.69`."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._began_work = done, now
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total, what=what)
        elif now - self._last_line >= LINE_EVERY or done == total:
            self._last_line = now
            fresh = done - self._first
            left = (now - self._began_work) / fresh * (total - done) if fresh else None
            rest = f", {_duration(left)} left" if left else ""
            self.line(f"{self._name}: {done}/{total} {what}{rest}")

    def skipped(self, name: str) -> None:
        """A stage that was finished before."""
        self.line(f"{name}: finished before, skipped")

    def line(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
