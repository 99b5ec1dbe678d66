"""Stopping a training between two steps, at the same one on every host."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aloe_jax.errors import ResumableError
from aloe_jax.parallel import hosts
from aloe_jax.parallel.mesh import AXES

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """While entered, SIGTERM (a machine that is taken away) and SIGINT (Ctrl-C) are noted instead of ending the process
    at once; a second one raises KeyboardInterrupt. Outside the main thread signals go where they went before."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._before: dict[int, Any] = {}
        self.asked = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def anywhere(self) -> bool | jax.Array:
        """Whether any process was asked to stop: known at once where there is one process, else an array that tells it
        once all devices have come here, alike on every process."""
        if not hosts.is_multiprocess():
            return self.asked
        sharding = NamedSharding(self._mesh, PartitionSpec(AXES))
        mine = np.full(1, self.asked)
        return _any(jax.make_array_from_callback((self._mesh.size,), sharding, lambda index: mine))

    def check(self, when: str) -> None:
        """ResumableError on every process if one of them was asked to stop. `when` is where the work stands; all
        processes call it together."""
        if self.anywhere():
            raise ResumableError(f"stopped {when}; the same command continues")


_any = jax.jit(jnp.any)
