"""Checkpoints by the clock: whether the last one is old enough for another, the same answer on all processes."""

from __future__ import annotations

import time

from aloe_jax.parallel import hosts


class Interval:
    """Minutes since the last checkpoint, by the clock of the primary process. All processes of a run call the same
    methods together; with 0 minutes it is never over."""

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self.restart()

    def restart(self) -> None:
        """Begin again, after a checkpoint."""
        self._began = time.monotonic()

    def over(self) -> bool:
        """Whether the time is over on the primary process."""
        if not self._seconds:
            return False
        return bool(hosts.broadcast_from_primary(int(time.monotonic() - self._began >= self._seconds)))
