"""The display of a running command: a live line on a terminal, at most a line per ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from etils import epath
from rich.console import Console, Group, RenderableType
from rich.live import Live

from aloe_jax.errors import ResumableError
from aloe_jax.run.progress_file import write_progress
from aloe_jax.run.progress_row import Row

Line = Callable[[str], None]  # displays a line
Doing = Callable[[str, str], AbstractContextManager[None]]  # displays work that is not counted, with a hint
LINE_EVERY = 10.0  # seconds between plain lines
SILENCE = 60.0  # seconds without a plain line after which the last count is repeated
WRITE_EVERY = 2.0  # seconds between two writes of the file for `aloe status`
REFRESH_PER_SECOND = 8
FIRST_COMPILE = "first time takes about a minute"


@dataclass(frozen=True)
class _Count:
    """The units being counted. A stage may count several kinds, one after the other."""

    unit: str
    total: int
    first: int  # units done when counting began
    began: float


class Progress:
    """Shows counts, rates and the remaining time of the running stage, and with `path` also writes them to a file."""

    def __init__(self, console: Console | None = None, path: epath.Path | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._path, self._written, self._lock = path, 0.0, threading.Lock()
        self._live: Live | None = None
        self._panel: RenderableType | None = None
        self._began = self._since = self._last_line = 0.0
        self._row = Row("", 0.0)
        self._count: _Count | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show one stage, from its start to its end or failure."""
        self._began = self._since = self._last_line = time.monotonic()
        self._row, self._count, self._panel = Row(name, 0.0), None, None
        terminal = self.console.is_terminal
        if terminal:
            self._live = Live(
                console=self.console,
                transient=True,
                refresh_per_second=REFRESH_PER_SECOND,
                get_renderable=self._shown,
            )
            self._live.start()
        else:
            self.line(f"{name}: started")
        ended = threading.Event()
        ticking = threading.Thread(target=self._tick, args=(ended, terminal), daemon=True)
        ticking.start()
        self._write(now=True)
        try:
            yield
        finally:
            ended.set()
            ticking.join()
            self._write(now=True)
            if self._live is not None:
                self._live.stop()
                self._live = None
        self.line(f"{name}: done in {duration(time.monotonic() - self._began)}")

    def update(self, done: int, total: int, what: str, rates: str = "") -> None:
        """Show `done` of `total` units. `what` names the unit and, after commas, figures: `steps, loss 0.69`. `rates`
        are what a narrow terminal does without."""
        now, (unit, *figures) = time.monotonic(), what.split(", ")
        if begins := self._count is None or (self._count.total, self._count.unit) != (total, unit):
            self._count = _Count(unit, total, done, now)
        assert self._count is not None
        fresh, elapsed = done - self._count.first, now - self._count.began
        known, ends = fresh > 0 and elapsed > 0, done == total and self._row.done != done
        self._row = Row(
            self._row.name,
            0.0,
            done=done,
            total=total,
            unit=unit,
            figures=tuple(figures),
            rates=(*([rates] if rates else []), *([f"{_figures(60 * fresh / elapsed)} a minute"] if known else [])),
            left=elapsed / fresh * (total - done) if known and done < total else None,
        )
        self._since = self._began
        self._write()
        if not self.console.is_terminal and (begins or ends or now - self._last_line >= LINE_EVERY):
            self._say(now)

    @contextmanager
    def doing(self, what: str, hint: str = "") -> Iterator[None]:
        """Show in the block, or until the next count, what is done that cannot be counted, with a clock."""
        before, since = self._row, self._since
        self._row, self._since = mine, _ = replace(before, doing=what, hint=hint), time.monotonic()
        self._write(now=True)
        try:
            yield
        finally:
            if self._row is mine:
                self._row, self._since = before, since

    def show(self, panel: RenderableType) -> None:
        """Show a panel below the line, replacing the previous one; without a terminal, nothing."""
        self._panel = panel

    def skipped(self, name: str) -> None:
        """Print that a stage was finished before."""
        self.line(f"{name}: finished before, skipped")

    def line(self, text: str) -> None:
        """Print a permanent line, which is broken between words on a terminal and nowhere else."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    def _now(self) -> Row:
        return replace(self._row, elapsed=time.monotonic() - self._since)

    def _shown(self) -> RenderableType:
        return self._now() if self._panel is None else Group(self._now(), self._panel)

    def _say(self, now: float) -> None:
        """Print the state as a plain line."""
        self._last_line, row = now, self._now()
        if row.doing:
            hint = f" ({row.hint})" if row.hint else ""
            self.line(f"{row.name}: {row.doing}, {duration(row.elapsed)} so far{hint}")
        elif row.total is not None:
            left = "" if row.left is None else f"{duration(row.left)} left"
            parts = (f"{row.done}/{row.total} {row.unit}", *row.figures, *row.rates, left)
            self.line(f"{row.name}: {', '.join(filter(None, parts))}")

    def _tick(self, ended: threading.Event, terminal: bool) -> None:
        """Until the end of the stage: repeat what lasts, so that it does not look dead, and keep the file fresh."""
        while not ended.wait(1):
            now = time.monotonic()
            self._write()
            silence = now - self._last_line
            if not terminal and silence >= (LINE_EVERY if self._row.doing else SILENCE):
                self._say(now)

    def _write(self, now: bool = False) -> None:
        """Write the file for `aloe status`, unless that was a moment ago. A full disk does not end the work here."""
        if self._path is None:
            return
        with self._lock:
            if not now and time.monotonic() - self._written < WRITE_EVERY:
                return
            self._written = time.monotonic()
            with contextlib.suppress(OSError, ResumableError):
                write_progress(self._path, self._now(), time.monotonic() - self._began)


def _figures(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds in hours, minutes and seconds: "1 h 05 min", "2 min 00 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def time_of_day(seconds: float) -> str:
    """The local time of an instant in seconds since the epoch, with the day if that is not today: "14:02"."""
    then, now = time.localtime(seconds), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%d %b %H:%M", then)


def quiet(line: str) -> None:
    """Display nothing."""
