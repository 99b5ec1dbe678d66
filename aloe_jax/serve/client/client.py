"""Asynchronous client for OpenAI-compatible chat servers.

Several servers of one model share the calls: a conversation stays with one server while that has room (its prefix is
cached there), else the least loaded one takes the call. Each server is given as many calls at a time as it takes
(`limits.py`). A failure that passes (no connection, 429, 5xx, a torn answer) is retried after random growing pauses; a
server that keeps failing gets no calls until it answers a health probe. A request that is refused, or fails for good
while others are answered, ends in a CallError; what no request would survive in ResumableError or InputError.
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

import aiohttp

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import endpoint
from aloe_jax.serve.client.abilities import left_out, without
from aloe_jax.serve.client.answers import Failure
from aloe_jax.serve.client.call_errors import FailedCallError
from aloe_jax.serve.client.endpoint import Endpoint
from aloe_jax.serve.client.exchange import api_key, certificates
from aloe_jax.serve.client.interface import ChatClient, Completions, Request, Response
from aloe_jax.serve.client.response import GivenResponse

# Seconds. Full jitter: each pause is uniform between 0 and min(LONGEST_PAUSE, FIRST_PAUSE * 2^attempt).
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
LONGEST_PROBE = 15.0  # between two health probes of a server that is down
# A conversation leaves its server when that is fuller than the emptiest one by this share of its limit.
MOST_UNEVEN = 0.5
GREETING = [{"role": "user", "content": "Hello!"}]


@dataclass(frozen=True)
class Timing:
    """How the client waits and tells the time; tests pass one without real pauses."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform


@dataclass
class Client(ChatClient):
    """Chat completions of one model from one server or several. Use as `async with Client(...) as client`.

    `base_url` includes the version (`http://127.0.0.1:8000/v1`); several stand with commas between them. The key is
    read from the environment variable `api_key_env` (no header if it is not set) and appears in no message. At most
    `concurrency` calls are under way; a call that pauses before a retry keeps its place, so that a struggling server
    gets no additional load. One attempt may take `timeout` seconds; `retries` more follow a failed one. All servers may
    be down for `patience` seconds.

    Raises InputError for a `base_url` that is no plain HTTP address and for numbers out of range.
    """

    base_url: str
    model: str
    api_key_env: str = "ALOE_API_KEY"
    concurrency: int = 8
    timeout: float = 600.0
    retries: int = 6
    patience: float = 60.0
    timing: Timing = field(default_factory=Timing, repr=False)
    notice: Callable[[str], None] = field(default=lambda sentence: None, repr=False)  # of a field that is left out
    completions: Completions = field(default_factory=Completions, init=False, repr=False)
    endpoints: list[Endpoint] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; expected {least} or more")
        self.endpoints = [
            Endpoint(address.strip(), self.model, self.api_key_env, self.concurrency, self.timeout)
            for address in self.base_url.split(",")
        ]
        self.base_url = ",".join(each.address for each in self.endpoints)
        self._places = asyncio.Semaphore(self.concurrency)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._revivals: set[asyncio.Task[None]] = set()
        self._open = 0  # calls that have no answer yet
        self._lost: str | None = None  # why no server will take calls any more
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        api_key(self.api_key_env)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=certificates()),  # the limits are the bound
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._revivals:
            task.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open connections, inside the `async with` block."""
        assert self._session is not None, "use the client in an `async with` block"
        return self._session

    async def respond(self, request: Request, affinity: str = "") -> Response:
        """The answers to a request. Calls of equal `affinity` prefer one server.

        Raises CallError if the server refuses this request or fails on it alone (the message is the server's),
        InputError if it refuses every request, and ResumableError if it cannot be reached or keeps failing.
        """
        self._open += 1
        try:
            async with self._places:
                response = await self._persist(request, affinity)
        finally:
            self._open -= 1
        self.completions.add(response.usage)
        return response

    @property
    def waiting(self) -> int:
        """Calls that wait for a place or pause before a retry."""
        return self._open - sum(server.limit.under_way for server in self.endpoints)

    async def _persist(self, request: Request, affinity: str) -> Response:
        """The response of the first attempt that gives one; raises once the failure is final or no retry is left."""
        failed, before, tried = 0, self._answered, set[str]()
        while True:
            server = await self._place(affinity, tried)
            outcome = await self._attempt(server, request)
            if isinstance(outcome, Response):
                return outcome
            if outcome.refused_field is not None:
                if outcome.refused_field not in server.refused:  # other calls may have learnt it meanwhile
                    server.refused.add(outcome.refused_field)
                    self.notice(server.redact(f"{server.address}: {left_out(outcome.refused_field)}"))
                continue
            if not outcome.load:
                tried.add(server.address)
            if not outcome.again or failed == self.retries:
                if outcome.again and outcome.error is ResumableError and await self._answers_others(server, before):
                    outcome = replace(outcome, error=FailedCallError)
                tries = f" ({failed + 1} attempts)" if failed else ""
                raise outcome.raised(server.redact(f"{server.address}: {outcome.reason}{tries}"))
            pause = self.timing.jitter(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**failed))
            failed += 1
            self.completions.retries += 1
            server.retries += 1
            await self.timing.sleep(pause)

    @property
    def _answered(self) -> int:
        """Answers of all servers so far."""
        return sum(server.answered for server in self.endpoints)

    async def _answers_others(self, server: Endpoint, before: int) -> bool:
        """Whether a failure that lasts is that of one call: others were answered since there were `before` answers, or
        the server answers a greeting."""
        if self._answered > before:
            return True
        body = without({"model": server.model, "messages": GREETING, "max_tokens": 16}, server.refused)
        raw = await server.post(self.session, body)
        return not isinstance(raw, Failure) and isinstance(server.read(raw, body, 1, self.timing.now()), GivenResponse)

    async def _attempt(self, server: Endpoint, request: Request) -> Response | Failure:
        """The outcome of one attempt, after the server's state was updated by it."""
        session, now = self.session, self.timing.now()
        cuts = server.limit.enter()
        try:
            outcome = await server.complete(session, request, now)
            if isinstance(outcome, Response):
                server.limit.answered()
                server.answered += 1
                server.failures = 0
            else:
                self._note(server, outcome, cuts)
            return outcome
        finally:
            server.limit.leave()
            self._wake(2)  # the place, and one more if the limit has grown

    def _note(self, server: Endpoint, failure: Failure, cuts: int) -> None:
        if failure.load:
            server.limit.refused(cuts)
        if failure.retry_after is not None:
            server.rest_until = max(server.rest_until, self.timing.now() + failure.retry_after)
        if failure.server and failure.again:
            server.failures += 1
            if server.failures >= endpoint.BREAK_AFTER and not server.down:
                server.down = True
                task = asyncio.create_task(self._revive(server, failure.reason))
                self._revivals.add(task)
                task.add_done_callback(self._revivals.discard)

    async def _revive(self, server: Endpoint, reason: str) -> None:
        """Request the models of a server that is down, with growing pauses, until it answers."""
        began, tries = self.timing.now(), 0
        while True:
            await self.timing.sleep(self.timing.jitter(0.0, min(LONGEST_PROBE, FIRST_PAUSE * 2**tries)))
            tries += 1
            found = await server.models(self.session)
            if not isinstance(found, Failure) and found.status < 500:
                break
            if all(each.down for each in self.endpoints) and self.timing.now() - began > self.patience:
                self._lost = server.redact(f"{server.address}: {reason} (for {self.patience:g} seconds)")
                self._wake(len(self._waiting))
                return
        server.down = False
        server.failures = endpoint.BREAK_AFTER - 1  # one more failure and it is down again
        server.limit.restart()
        self._wake(len(self._waiting))

    async def _place(self, affinity: str, tried: Collection[str] = ()) -> Endpoint:
        """A server that takes a call, as soon as there is one, those `tried` in vain last. ResumableError if all are
        gone."""
        while True:
            if self._lost is not None:
                raise ResumableError(self._lost)
            now = self.timing.now()
            up = [server for server in self.endpoints if not server.down]
            ready = [server for server in up if server.rest_until <= now]
            free = [server for server in ready if server.limit.free]
            free = [server for server in free if server.address not in tried] or free
            if free:
                return _choose(free, affinity)
            if up and not ready:
                await self.timing.sleep(min(server.rest_until for server in up) - now)
                continue
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake(1)  # the turn goes to the next one
                raise

    def _wake(self, count: int) -> None:
        """Let the first `count` waiting calls look for a place again."""
        while count and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1


def _choose(free: Sequence[Endpoint], affinity: str) -> Endpoint:
    """The least loaded server, or the one a conversation belongs to (rendezvous hashing, so that it is the same
    whichever others are up) while that is not much fuller."""

    def load(server: Endpoint) -> float:
        return server.limit.under_way / server.limit.value

    emptiest = min(free, key=load)
    if affinity and len(free) > 1:
        own = max(free, key=lambda server: zlib.crc32(f"{affinity} {server.address}".encode()))
        if load(own) <= load(emptiest) + MOST_UNEVEN:
            return own
    return emptiest
