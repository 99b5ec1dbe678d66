"""A clock on stderr for work that cannot be counted, which starts before much is imported."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST, EVERY = 0.5, 0.25  # seconds


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show `what` and the seconds so far on stderr's terminal while the block runs, on a line that is cleared at the
    end. Without a terminal, nothing."""
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    showing = threading.Thread(target=_show, args=(what, ended), daemon=True)
    showing.start()
    try:
        yield
    finally:
        ended.set()
        showing.join()


def _show(what: str, ended: threading.Event) -> None:
    began, stream = time.monotonic(), sys.stderr
    wait = FIRST
    while not ended.wait(wait):
        wait = EVERY
        print(f"\r{what}, {time.monotonic() - began:.0f} s\x1b[K", end="", file=stream, flush=True)
    print("\r\x1b[K", end="", file=stream, flush=True)
