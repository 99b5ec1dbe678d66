"""SIGINT, SIGTERM and SIGHUP: an immediate exit while a command starts, KeyboardInterrupt once it works.

SIGHUP, a closed terminal, is handled as SIGTERM, unless it was ignored from the start, as with `nohup`. Shell and
kernel may both send it, so only the first one counts.
"""

from __future__ import annotations

import contextlib
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
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ENDS = (signal.SIGTERM, signal.SIGHUP)
RESEND_SECONDS = 0.05  # after which a swallowed interrupt is sent again
CLEAR_LINE = "\r\x1b[K"
Phase = Literal["start", "stop"]
Handler = Callable[[int, FrameType | None], object]
_JAX_CALLBACK = "_xla_gc_callback"


def exit_at_once() -> None:
    """Let signals end the process at once, with the sentence and 75: during imports an exception could be raised inside
    an extension module, and nothing has been written yet."""
    for number in SIGNALS:
        _handle(number, _exit)


def raise_interrupts() -> None:
    """Let signals raise KeyboardInterrupt from now on; asyncio then cancels its tasks in order. To be called when all
    that a command needs is imported."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for a background job
    for number in ENDS:
        _handle(number, _interrupt)
    gc.callbacks[:] = [_keeping(one) if one.__name__ == _JAX_CALLBACK else one for one in gc.callbacks]


def end_input() -> None:
    """Let SIGINT raise KeyboardInterrupt, SIGTERM and SIGHUP EOFError from now on: for a command that reads lines they
    are the end of its input, while Ctrl-C drops a line or a reply.

    A signal that arrives after readline has shown its prompt and before it waits for a key would be seen at the next
    key, so it is sent again until its handler has run.
    """
    raise_interrupts()
    seen = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        _ignore_hangups(number)
        seen.set()
        raise EOFError

    for number in ENDS:
        _handle(number, end)
    arrived, arriving = os.pipe()
    os.set_blocking(arriving, False)
    signal.set_wakeup_fd(arriving, warn_on_full_buffer=False)
    threading.Thread(target=_send_again, args=(arrived, seen), daemon=True).start()


def _handle(number: int, handler: Handler) -> None:
    """Set the handler of a signal; SIGHUP stays ignored if it is."""
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_hangups(number)
    signal.raise_signal(signal.SIGINT)


def _ignore_hangups(number: int) -> None:
    """After a SIGHUP, let no second one interrupt the work on what the first one requested."""
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_IGN)


def _send_again(arrived: int, seen: threading.Event) -> None:
    """Send a signal of `ENDS` to the main thread again until it is `seen`; `arrived` gets the number of each signal as
    a byte."""
    main = threading.main_thread().ident
    while number := os.read(arrived, 1):
        while number[0] in ENDS and not seen.wait(RESEND_SECONDS):
            signal.pthread_kill(main or 0, number[0])


def _exit(number: int, frame: FrameType | None) -> None:
    terminal = sys.__stderr__.fileno() if sys.__stderr__ else 2
    with contextlib.suppress(OSError):  # the terminal may be closed
        os.write(terminal, f"{CLEAR_LINE if os.isatty(terminal) else ''}aloe: {STOPPED}\n".encode())
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
