"""A watch over the steps of a training: where no step ends for long, it writes the stacks of all threads and names the
process that is behind.

A device that hangs, a host that swaps, a file system that does not answer: nothing raises, and the run stands still.
The watch only tells; the end of a lost process is `parallel/control.py`'s. Stacks come from `faulthandler`, whose own
thread needs no lock of the interpreter.
"""

from __future__ import annotations

import contextlib
import faulthandler
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

from aloe_jax.parallel import board
from aloe_jax.run.progress import duration

MEDIANS = 20  # a step may take so many times the median one
RECENT = 100  # steps that the median is of
LOOK_EVERY = 1.0  # seconds between two looks at the clock, and at most two notes on the board
WATCHED = ("data", "step")  # parts of the clock that the watch counts; any other may take its time


class StallWatch:
    """Watches while entered, from the first step on. `seconds` is the least time without a step that counts as a stall;
    0 watches nothing. It writes to `file`, once per stall."""

    def __init__(self, seconds: float, file: TextIO | None = None) -> None:
        # The original stream, since faulthandler needs a file of the system.
        self._seconds, self._file = seconds, file or sys.__stderr__ or sys.stderr
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._ended, self._changed = threading.Event(), threading.Lock()
        self._number, self._part, self._since = 0, "start", time.monotonic()
        self._told = True  # until the first step
        self._thread = threading.Thread(target=self._look, daemon=True)

    def step(self, number: int) -> None:
        """Note that this process dispatches a step; call it before each."""
        with self._changed:
            if self._number and self._part in WATCHED:
                self._steps.append(time.monotonic() - self._since)
            self._number = number
        self._arm("step")

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of the clock: while it is none of `WATCHED`, nothing counts as a stall, and the time begins anew
        after it."""
        before = self._part
        if name not in WATCHED:
            self._arm(name)
        else:
            self._part = name
        try:
            yield
        finally:
            if name not in WATCHED:
                self._arm(before)
            else:
                self._part = before

    @property
    def limit(self) -> float:
        """Seconds after which a step counts as stalled."""
        return max(self._seconds, MEDIANS * statistics.median(self._steps)) if self._steps else self._seconds

    def _arm(self, part: str) -> None:
        """Begin the time anew."""
        with self._changed:
            self._part, self._since = part, time.monotonic()
            self._told = not self._seconds or not self._number or part not in WATCHED
            if not self._seconds:
                return
            if self._told:
                faulthandler.cancel_dump_traceback_later()
            else:
                faulthandler.dump_traceback_later(self.limit, file=self._file)

    def _look(self) -> None:
        """Until the end: note on the board where this process is, and name who is behind."""
        noted = None
        while not self._ended.wait(LOOK_EVERY):
            with contextlib.suppress(Exception):  # of the service, whose end is that of the run
                if noted != (now := (self._number, self._part)):
                    board.post({"step": self._number, "part": self._part, "time": time.time()})
                    noted = now
            with self._changed:
                passed = time.monotonic() - self._since
                stalls = not self._told and passed >= self.limit
                self._told |= stalls
                number = self._number
            if not stalls:
                continue
            with contextlib.suppress(OSError):  # a closed terminal
                print(f"aloe: {self._sentence(number, passed)}", file=self._file, flush=True)

    def _sentence(self, number: int, passed: float) -> str:
        known: dict[int, board.Note] = {}
        with contextlib.suppress(Exception):
            known = board.notes()
        own = board.own_number()
        return (
            f"process {own} has been at step {number} for {duration(passed)}, above config.logging.stall_seconds; "
            f"{behind(known, own, time.time())}; the stacks of this process stand beside this line"
        )

    def __enter__(self) -> StallWatch:
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
            self._thread.join(LOOK_EVERY)  # it may wait for a coordinator that is gone


def behind(notes: dict[int, board.Note], own: int, now: float) -> str:
    """Who does not step, from the notes of all processes: those with the fewest steps, if not all have as many."""
    if len(notes) < 2:
        return "no other process takes part"
    least = min(note["step"] for note in notes.values())
    if all(note["step"] == least for note in notes.values()):
        return f"all {len(notes)} processes are at step {least}, so a device or a link between them hangs"
    late = [
        f"process {number}{' (this one)' if number == own else ''} on {note['host']}, at step {note['step']} in "
        f"'{note['part']}' for {duration(max(0.0, now - note['time']))}"
        for number, note in notes.items()
        if note["step"] == least
    ]
    return f"behind is {'; '.join(late)}"
