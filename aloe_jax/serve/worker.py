"""The one thread that owns the decoding engine.

An engine is not thread-safe, and a step blocks while the device computes. So the engine has a thread of its own, and
all other threads use it through futures: `submit` returns one, and cancelling it cancels the request. `stream` returns
the tokens as they are decoded.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from aloe_jax.decode.requests import Completion, Delta, Request
from aloe_jax.decode.state import EngineState
from aloe_jax.serve.pace import Pace
from aloe_jax.serve.token_stream import TokenStream

log = logging.getLogger(__name__)

Deltas = list[tuple[Future[list[Completion]], Delta]]
Done = list[tuple[Future[list[Completion]], list[Completion]]]


class Engine(Protocol):
    """The part of `aloe_jax.decode.engine.Engine` that serving needs."""

    @property
    def context(self) -> int:
        """Maximum of the tokens of a prompt and its completion together."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        ...

    @property
    def state(self) -> EngineState:
        """What is under way, and what is free."""
        ...

    def submit(self, request: Request) -> int:
        """Queue a request and return its ticket; InputError if the prompt does not fit or the constraint cannot be
        kept."""
        ...

    def cancel(self, ticket: int) -> None:
        """Drop a request, running or waiting; `step` never returns it afterwards."""
        ...

    def stop(self, ticket: int, index: int) -> None:
        """End one completion of a request with what it has, as "stop"."""
        ...

    def step(self) -> list[tuple[int, list[Completion]]]:
        """Decode for a while; tickets that finished, each with all its completions."""
        ...

    def streamed(self) -> list[tuple[int, Delta]]:
        """What the streamed requests got in the last step, by ticket."""
        ...


class UnavailableError(Exception):
    """The engine takes no request: it stopped or failed."""


class OverloadedError(Exception):
    """The maximum of waiting requests is reached; there should be room after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Worker:
    """Runs `engine` on its own thread between `start` and `stop`.

    A step that raises ends the thread: the engine's device buffers are in an unknown state then. `failure` holds what
    it raised, open requests fail with UnavailableError and `on_failure` is called once.

    `settle` is called before every step and returns when everybody who got an answer has had the time to submit the
    next request, so that the steps take the same requests whatever the time that answers take elsewhere. `deliver` is
    called with a function that gives the answers of a step, all of them at once, so that their order cannot change.
    `pace` times the requests.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_waiting: int = 1024,
        on_failure: Callable[[], None] | None = None,
        settle: Callable[[], None] | None = None,
        deliver: Callable[[Callable[[], None]], None] = lambda give: give(),
        pace: Pace | None = None,
    ) -> None:
        self.context = engine.context
        self.failure: BaseException | None = None
        self.state = engine.state  # of the engine after its last step or order
        self._engine = engine
        self._max_waiting = max_waiting
        self._pace = pace
        self._on_failure = on_failure
        self._settle, self._deliver = settle, deliver
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()  # None ends the thread
        self._lock = threading.Lock()
        self._open: dict[Future[list[Completion]], TokenStream | None] = {}
        self._accepting = False
        self._tickets: dict[Future[list[Completion]], int] = {}  # touched by the engine's thread alone
        self._thread = threading.Thread(target=self._run, name="aloe-engine", daemon=True)

    @property
    def accepting(self) -> bool:
        """Whether requests are taken."""
        return self._accepting

    @property
    def waiting(self) -> int:
        """Requests of which nothing runs yet."""
        return max(len(self._open) - self.state.running, 0)

    def start(self) -> None:
        self._accepting = True
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current step; requests still open fail with UnavailableError."""
        self._orders.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, request: Request) -> Future[list[Completion]]:
        """A future of the request's completions. It raises InputError if the engine refuses the request.

        Raises UnavailableError when the engine is not running and OverloadedError when `max_waiting` requests wait.
        """
        future: Future[list[Completion]] = Future()
        self._enter(future, request, None)
        return future

    def stream(self, request: Request, live: bool = True) -> TokenStream:
        """The tokens of a request as they are decoded; if nobody reads them at once (not `live`), in larger parts.
        Raises as `submit`; what the engine refuses the request for is raised where the stream is read."""
        future: Future[list[Completion]] = Future()
        stream = TokenStream(future, lambda index: self._orders.put(functools.partial(self._stop_one, future, index)))
        self._enter(future, dataclasses.replace(request, stream=True, live=live), stream)
        return stream

    def _enter(self, future: Future[list[Completion]], request: Request, stream: TokenStream | None) -> None:
        future.add_done_callback(self._closed)
        with self._lock:
            if not self._accepting:
                raise UnavailableError
            if self.waiting >= self._max_waiting + self.state.free_rows:
                raise OverloadedError(self._pace.retry_after(self.waiting) if self._pace else 1)
            self._open[future] = stream
            if self._pace:
                self._pace.take(future, request)
                request = dataclasses.replace(request, stream=True)  # its first token shows when it comes
            self._orders.put(functools.partial(self._admit, future, request))

    def _closed(self, future: Future[list[Completion]]) -> None:
        with self._lock:
            self._open.pop(future, None)
        if self._pace:
            self._pace.leave(future)
        if future.cancelled():
            self._orders.put(functools.partial(self._cancel, future))

    def _run(self) -> None:
        try:
            while self._take_orders() and self._settled():
                by_ticket = {ticket: future for future, ticket in self._tickets.items()}
                done = [(by_ticket[ticket], completions) for ticket, completions in self._engine.step()]
                deltas = [(by_ticket[ticket], delta) for ticket, delta in self._engine.streamed()]
                drawn = [(self._open.get(future), delta) for future, delta in deltas]
                for future, _ in done:
                    del self._tickets[future]
                self.state = self._engine.state
                if self._pace:
                    self._time(self._pace, deltas, done)
                if done or drawn:
                    self._deliver(functools.partial(_give, drawn, done))
        except BaseException as error:  # a panic of a native library is no Exception
            log.exception("the decoding engine failed; the server takes no more requests")
            self.failure = error
        self._close()
        if self.failure is not None and self._on_failure is not None:
            self._on_failure()

    @staticmethod
    def _time(pace: Pace, deltas: Deltas, done: Done) -> None:
        for future, delta in deltas:
            pace.draw(future, delta)
        for future, _ in done:
            pace.serve(future)

    def _settled(self) -> bool:
        """Take the orders that come until everybody has submitted; False means stop."""
        if self._settle is None:
            return True
        self._settle()
        return self._take_orders()

    def _take_orders(self) -> bool:
        """Submit and cancel as ordered; blocks while the engine is idle. False means stop."""
        while True:
            try:
                order = self._orders.get(block=not self._engine.busy)
            except queue.Empty:
                return True
            if order is None:
                return False
            order()
            self.state = self._engine.state

    def _admit(self, future: Future[list[Completion]], request: Request) -> None:
        if future.cancelled():
            return
        try:
            self._tickets[future] = self._engine.submit(request)
        except BaseException as error:
            # The request's fault, not the engine's: only its sender gets the error.
            self._deliver(functools.partial(_refuse, future, error))

    def _cancel(self, future: Future[list[Completion]]) -> None:
        if (ticket := self._tickets.pop(future, None)) is not None:
            self._engine.cancel(ticket)

    def _stop_one(self, future: Future[list[Completion]], index: int) -> None:
        if (ticket := self._tickets.get(future)) is not None:
            self._engine.stop(ticket, index)

    def _close(self) -> None:
        with self._lock:
            self._accepting = False
            left = list(self._open)
        for future in left:
            _refuse(future, UnavailableError())


def _give(drawn: list[tuple[TokenStream | None, Delta]], done: Done) -> None:
    for stream, delta in drawn:
        if stream is not None:  # else it was cancelled during the step
            stream.put(delta)
    for future, completions in done:
        if _wanted(future):
            future.set_result(completions)


def _refuse(future: Future[list[Completion]], error: BaseException) -> None:
    if _wanted(future):
        future.set_exception(error)


def _wanted(future: Future[list[Completion]]) -> bool:
    """Whether somebody still waits: it may have been cancelled, or failed as the worker stopped."""
    return not future.done() and future.set_running_or_notify_cancel()
