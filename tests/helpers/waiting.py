"""Waiting for another thread or process, never without end."""

import time


def until(condition, seconds=60, every=0.01):
    """Whether the condition holds before the time is over."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(every)
    return condition()
