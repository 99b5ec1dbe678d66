"""SIGINT and SIGTERM: an immediate exit while a command starts, KeyboardInterrupt once it works."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Literal

from aloe_jax.errors import ResumableError

STOPPED = "stopped; the same command continues where it was"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESEND_SECONDS = 0.05  # after which a swallowed interrupt is sent again
Phase = Literal["start", "stop"]
_JAX_CALLBACK = "_xla_gc_callback"


def exit_at_once() -> None:
    """Let signals end the process at once, with the sentence and 75: during imports an exception could be raised inside
    an extension module, and nothing has been written yet."""
    for number in SIGNALS:
        signal.signal(number, _exit)


def raise_interrupts() -> None:
    """Let signals raise KeyboardInterrupt from now on; asyncio then cancels its tasks in order. To be called when all
    that a command needs is imported."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for a background job
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    gc.callbacks[:] = [_keeping(one) if one.__name__ == _JAX_CALLBACK else one for one in gc.callbacks]


def end_input() -> None:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM EOFError from now on: for a command that reads lines, SIGTERM is
    the end of its input, while Ctrl-C drops a line or a reply."""
    raise_interrupts()
    signal.signal(signal.SIGTERM, _end_input)


def _end_input(number: int, frame: FrameType | None) -> None:
    raise EOFError


def _exit(number: int, frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"aloe: {STOPPED}\n".encode())
    os._exit(ResumableError.exit_code)


def _keeping(callback: Callable[[Phase, dict[str, int]], object]) -> Callable[[Phase, dict[str, int]], None]:
    """A callback of the garbage collector that sends an interrupt again which was raised inside it, where Python would
    print and drop it."""

    def kept(phase: Phase, info: dict[str, int]) -> None:
        try:
            callback(phase, info)
        except KeyboardInterrupt:
            threading.Timer(RESEND_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()

    return kept
