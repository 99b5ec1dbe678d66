"""How fast requests are served, seen where their tokens arrive: for /metrics, and for when to try again."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from aloe_jax.decode.requests import Delta, Request

WINDOW = 60.0  # seconds that the rate is a mean over, and the longest pause that a client is told
UNKNOWN = 1  # seconds that it is told when nothing was served in the window


class Observer(Protocol):
    """What is told of requests as they are served. Times are in seconds."""

    def first_token(self, seconds: float) -> None:
        """A request got its first token this long after it was taken."""
        ...

    def tokens(self, count: int) -> None:
        """This many were drawn."""
        ...

    def completion(self, finish_reason: str, per_token: float | None) -> None:
        """A completion ended; `per_token` is the mean time of the tokens behind its first ones, None without such."""
        ...

    def request(self, prompt_tokens: int, seconds: float) -> None:
        """A request ended, all its completions with it, this long after it was taken."""
        ...


@dataclass
class _Timing:
    taken: float
    prompt_tokens: int
    begun: dict[int, tuple[float, int]] = field(default_factory=dict)  # completion: its first tokens' time and number
    tokens: dict[int, int] = field(default_factory=dict)


class Pace:
    """Times the requests of one engine. `take` and `leave` may be called by any thread, the others by one."""

    def __init__(self, observer: Observer | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._observer, self._clock = observer, clock
        self._timings: dict[Hashable, _Timing] = {}
        self._lock = threading.Lock()
        self._ends: deque[float] = deque(maxlen=256)

    def take(self, key: Hashable, request: Request) -> None:
        """Begin to time a request, which `key` stands for from now on."""
        self._timings[key] = _Timing(self._clock(), len(request.prompt))

    def leave(self, key: Hashable) -> None:
        """Forget a request, whatever became of it."""
        self._timings.pop(key, None)

    def draw(self, key: Hashable, delta: Delta) -> None:
        """Note what a completion of a request got."""
        timing = self._timings.get(key)
        if timing is None or self._observer is None:
            return
        now, count = self._clock(), len(delta.token_ids)
        if count and not timing.begun:
            self._observer.first_token(now - timing.taken)
        if count:
            timing.begun.setdefault(delta.index, (now, count))
            timing.tokens[delta.index] = timing.tokens.get(delta.index, 0) + count
            self._observer.tokens(count)
        if delta.finish_reason is not None:
            begun, first = timing.begun.get(delta.index, (now, 0))
            later = timing.tokens.get(delta.index, 0) - first
            self._observer.completion(delta.finish_reason, (now - begun) / later if later else None)

    def serve(self, key: Hashable) -> None:
        """Note that a request has all its completions."""
        now, timing = self._clock(), self._timings.get(key)
        with self._lock:
            self._ends.append(now)
        if timing is not None and self._observer is not None:
            self._observer.request(timing.prompt_tokens, now - timing.taken)

    def retry_after(self, waiting: int) -> int:
        """Seconds until half of `waiting` requests will have begun at the rate of the last minute, from 1 to 60: by
        then there is room, and those who were sent away do not all come back to a full queue."""
        now = self._clock()
        with self._lock:
            ends = [end for end in self._ends if now - end < WINDOW]
        if len(ends) < 2:
            return UNKNOWN
        seconds = waiting / 2 * (now - ends[0]) / len(ends)
        return min(max(math.ceil(seconds), 1), int(WINDOW))
