"""A line of progress on a terminal, cut to its width: what matters least is left out first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

FRAMES, PLAIN_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"
FRAMES_PER_SECOND = 10
BAR, LONGEST_BAR = 10, 40  # characters


@dataclass(frozen=True)
class Row:
    """What is known of the work that runs now.

    Attributes:
        name: of the stage.
        elapsed: seconds that the stage, or what `doing` names, has taken so far.
        doing: what it does that is not counted, such as compiling; empty if nothing.
        hint: more about that, in brackets.
        done, total: counted units; None before counting began.
        unit: their name.
        figures: further results, such as a loss.
        rates: counts per time.
        left: estimate of the seconds left.
    """

    name: str
    elapsed: float
    doing: str = ""
    hint: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
    figures: tuple[str, ...] = field(default=())
    rates: tuple[str, ...] = field(default=())
    left: float | None = None

    def uncounted(self, width: int) -> str:
        """What is done without a count, with its clock, and the hint where `width` columns have room for it."""
        words, hint = f"{self.doing or 'working'}, {clock_time(self.elapsed)}", f" ({self.hint})" if self.hint else ""
        return words + hint if len(f"  {self.name} {words}{hint}") <= width else words

    def counted(self, width: int) -> str:
        """What stands behind the bar in `width` columns, which leave the bar its least length."""
        *longer, shortest = self._texts()
        return next((text for text in longer if len(f"  {self.name}  {text}") + BAR <= width), shortest)

    def _texts(self) -> Iterator[str]:
        """What can stand behind the bar, the longest first: rates are left out before the time so far, figures, unit
        and count. The time left stays, or without an estimate the time so far."""
        clock = clock_time(self.elapsed)
        since, last = ((), clock) if self.left is None else ((clock,), f"{clock_time(self.left)} left")
        count = f"{self.done}/{self.total}"
        for kept in range(len(self.rates), -1, -1):
            yield ", ".join((f"{count} {self.unit}", *self.figures, *since, *self.rates[:kept], last))
        for kept in range(len(self.figures), -1, -1):
            yield ", ".join((f"{count} {self.unit}", *self.figures[:kept], last))
        yield f"{count}, {last}"
        yield last

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line: a turning mark, the name, and the bar between the words."""
        width, plain = options.max_width, options.ascii_only
        frames = PLAIN_FRAMES if plain else FRAMES
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(frames[int(time.monotonic() * FRAMES_PER_SECOND) % len(frames)], "progress.spinner")
        line.append(f" {self.name}", "bold")
        if self.doing or self.total is None:
            yield line.append(f" {self.uncounted(width)}")
            return
        behind = self.counted(width)
        room = max(min(width - len(f"  {self.name}  {behind}"), LONGEST_BAR), 0)
        full = int(min(max((self.done or 0) / max(self.total, 1), 0.0), 1.0) * room)
        line.append(" ")
        line.append(("#" if plain else "━") * full, "bar.complete")
        line.append(("-" if plain else "─") * (room - full), "bar.back")
        yield line.append(f" {behind}")


def clock_time(seconds: float) -> str:
    """Seconds as on a stopwatch: "0:07", "12:30", "1:05:09"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
