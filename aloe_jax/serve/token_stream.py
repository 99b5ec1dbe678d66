"""The tokens of a request as they are decoded, for a thread or for a coroutine that reads them when it likes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from aloe_jax.decode.requests import Completion, Delta


class TokenStream:
    """The deltas of one request, by `for` or by `async for`. Either raises what the request failed with (InputError
    where the engine refuses it, before any delta), and ends after the last delta of the last completion, or after
    `cancel`.

    Nobody waits for the reader: what it has not read is kept. `with` cancels the request at its end.
    """

    def __init__(self, future: Future[list[Completion]], stop: Callable[[int], None]) -> None:
        self._future, self._stop = future, stop
        self._news = threading.Condition()
        self._deltas: deque[Delta] = deque()
        self._reader: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        future.add_done_callback(lambda _: self.put())

    def put(self, *deltas: Delta) -> None:
        """Add deltas, from any thread, and wake the reader."""
        with self._news:
            self._deltas.extend(deltas)
            self._news.notify_all()
            reader, self._reader = self._reader, None
        if reader is not None:
            loop, arrival = reader
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_wake, arrival)

    def stop(self, index: int) -> None:
        """End one completion: its pages become free, and its last delta says "stop" unless it has ended by itself. What
        the engine drew in the meantime still comes before."""
        self._stop(index)

    def cancel(self) -> None:
        """End the whole request, which frees its pages; without effect once it is done."""
        self._future.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        with self._news:
            while not (self._deltas or self._future.done()):
                self._news.wait()
            if self._deltas:
                return self._deltas.popleft()
        self._raise_failure()
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while True:
            with self._news:
                if self._deltas:
                    return self._deltas.popleft()
                if self._future.done():
                    break
                loop = asyncio.get_running_loop()
                arrival = loop.create_future()
                self._reader = loop, arrival
            await arrival
        self._raise_failure()
        raise StopAsyncIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _raise_failure(self) -> None:
        if not self._future.cancelled() and (error := self._future.exception()) is not None:
            raise error


def _wake(arrival: asyncio.Future[None]) -> None:
    if not arrival.done():
        arrival.set_result(None)
