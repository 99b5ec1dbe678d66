"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

# Timed separately: everything before the first step (loading the model or a checkpoint, the reference model's
# log-probabilities, counting the work), waiting for rows, compiling, waiting for a checkpoint, and measuring on
# held-out conversations. The rest of the time goes to the steps.
PARTS = ("start", "data", "compile", "checkpoint", "held_out")


class Clock:
    """Splits the time between two readings into `PARTS` and `step`. `show` is entered, with its name, around a part."""

    def __init__(self, show: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext()) -> None:
        self.began = time.time()  # in seconds since the epoch
        self._shown = [show]
        self._since = time.monotonic()
        self._spent = dict.fromkeys(PARTS, 0.0)

    def also(self, show: Callable[[str], AbstractContextManager[None]]) -> None:
        """Enter another function's result around every part that follows."""
        self._shown.append(show)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time spent inside towards a part."""
        began = time.monotonic()
        try:
            with ExitStack() as stack:
                for show in self._shown:
                    stack.enter_context(show(name))
                yield
        finally:
            self._spent[name] += time.monotonic() - began

    def read(self) -> dict[str, float]:
        """Seconds since the last reading: `seconds`, and of those `<part>_seconds` and `step_seconds`."""
        now = time.monotonic()
        total, spent = now - self._since, self._spent
        self._since, self._spent = now, dict.fromkeys(PARTS, 0.0)
        parts = {**spent, "step": total - sum(spent.values())}
        return {"seconds": total} | {f"{name}_seconds": seconds for name, seconds in parts.items()}
