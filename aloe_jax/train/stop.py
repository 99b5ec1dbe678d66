"""Stopping a training between two steps, at the same one on every host."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aloe_jax.errors import ResumableError
from aloe_jax.parallel import hosts
from aloe_jax.parallel.mesh import AXES

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """While entered, SIGTERM (preemption), SIGINT (Ctrl-C) and SIGHUP (a closed terminal) set `requested` instead of
    ending the process. A second signal raises KeyboardInterrupt, but not SIGHUP, which shell and kernel may both send.
    Outside the main thread the signal handlers stay as they were, and a signal that is ignored stays so."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._restore = contextlib.ExitStack()  # the handlers from before
        self.requested = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` does with SIGHUP
                    self._restore.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number != signal.SIGHUP:
            raise KeyboardInterrupt
        if self.requested:
            return
        self.requested = True
        with contextlib.suppress(OSError):  # the terminal may be closed
            os.write(2, b"aloe: stopping after this step, with a checkpoint; a second signal stops at once\n")

    def anywhere(self) -> bool | jax.Array:
        """Whether any process received a signal. With several processes, an array that is computed once all devices
        have reached this point, with the same value everywhere."""
        if not hosts.is_multiprocess():
            return self.requested
        sharding = NamedSharding(self._mesh, PartitionSpec(AXES))
        mine = np.full(1, self.requested)
        return _any(jax.make_array_from_callback((self._mesh.size,), sharding, lambda index: mine))

    def check(self, when: str) -> None:
        """Raise ResumableError on every process if one of them received a signal. `when` describes the progress of the
        work; all processes call this together."""
        if self.anywhere():
            raise stopped(when)


def stopped(when: str) -> ResumableError:
    """The error that ends the work on every process, after all have agreed to stop."""
    hosts.stop_together()
    return ResumableError(f"stopped {when}; the same command continues")


_any = jax.jit(jnp.any)
