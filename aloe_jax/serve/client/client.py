"""Asynchronous client for OpenAI-compatible chat servers; all data generation goes through it.

A call is a pure request (the seed is explicit) with an id that is the hash of its content, so that what a server said
can be stored under it. Several servers of one model share the calls: a conversation stays with one server while that
has room (its prefix is cached there), else the least loaded one takes the call. Each server is given as much at a time
as it takes (`limits.py`). A failure that passes (no connection, 429, 5xx, a torn answer) is waited out with random
growing pauses; a server that keeps failing is left alone until it answers a health probe. A lasting failure ends in
ResumableError, a refused request in InputError.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp

from aloe_jax import files
from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import answers, endpoint
from aloe_jax.serve.client.answers import Answer, Failure
from aloe_jax.serve.client.endpoint import Endpoint
from aloe_jax.serve.protocol import ChatResponse
from aloe_jax.tree.schema import Message

# Seconds. Full jitter: each pause is uniform between 0 and min(LONGEST_PAUSE, FIRST_PAUSE * 2^attempt).
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
LONGEST_PROBE = 15.0  # between two health probes of a server that is down
# A conversation leaves its server when that is fuller than the emptiest one by this share of its limit.
MOST_UNEVEN = 0.5
Request = dict[str, Any]


@dataclass
class Completions:
    """What went through a client so far, for progress displays. Tokens as the server counts them."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Clock:
    """How the client waits; tests pass one that does not."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.time
    jitter: Callable[[float, float], float] = random.uniform


@dataclass
class Client:
    """Chat completions of one model from one server or several. Use as `async with Client(...) as client`.

    `base_url` includes the version (`http://127.0.0.1:8000/v1`); several stand with commas between them. The key is
    read from the environment variable `api_key_env` (no header if it is not set) and appears in no message. At most
    `concurrency` calls are under way; a call that pauses before a retry keeps its place, so that a struggling server is
    not pressed. One attempt may take `timeout` seconds; `retries` more follow a failed one. All servers may be down for
    `patience` seconds.

    Raises InputError for a `base_url` that is no plain HTTP address and for numbers out of range.
    """

    base_url: str
    model: str
    api_key_env: str = "ALOE_API_KEY"
    concurrency: int = 8
    timeout: float = 600.0
    retries: int = 6
    patience: float = 60.0
    clock: Clock = field(default_factory=Clock, repr=False)
    completions: Completions = field(default_factory=Completions, init=False, repr=False)

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
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the limits are the bound
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

    async def chat(self, messages: Sequence[Message], *, affinity: str = "", **how: Any) -> list[Answer]:
        """Completions of the dialogue; `how` is what `request` takes. Calls of equal `affinity` prefer one server.

        Raises InputError if the server refuses the request (the message is the server's) and ResumableError if it
        cannot be reached or keeps failing.
        """
        request = self.request(messages, **how)
        response = await self.respond(request, affinity)
        name = call_id(request)
        return [answers.answer(choice, response.tokenizer_hash, name) for choice in response.choices]

    def request(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        n: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 256,
        logprobs: bool = True,
        token_ids: bool = True,
        top_logprobs: int = 0,
        choices: Sequence[str] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Request:
        """A call as data. It says what is wanted and not how a server is told so: constrained to one of `choices` or
        to the JSON `schema`, the text is that or, where the server keeps to no constraint, whatever it says."""
        request: Request = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "seed": seed,
            "n": n,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
            "logprobs": logprobs,
            "return_token_ids": token_ids,
        }
        if top_logprobs:
            request["top_logprobs"] = top_logprobs
        if choices:
            request["choices"] = list(choices)
        if schema is not None:
            request["schema"] = dict(schema)
        return request

    async def respond(self, request: Request, affinity: str = "") -> ChatResponse:
        """What `chat` does, from request to response."""
        self._open += 1
        try:
            async with self._places:
                response = await self._persist(request, affinity)
        finally:
            self._open -= 1
        self._count(response)
        return response

    @property
    def waiting(self) -> int:
        """Calls that wait for a place or in a pause."""
        return self._open - sum(server.limit.under_way for server in self.endpoints)

    async def _persist(self, request: Request, affinity: str) -> ChatResponse:
        """Try until there is an answer, the failure is final or the retries are used up."""
        failed = 0
        while True:
            server = await self._place(affinity)
            outcome = await self._attempt(server, request)
            if isinstance(outcome, ChatResponse):
                return outcome
            if outcome.refused_field is not None:
                server.refused.add(outcome.refused_field)
                continue
            if not outcome.again or failed == self.retries:
                tries = f" ({failed + 1} attempts)" if failed else ""
                raise outcome.error(server.redact(f"{server.address}: {outcome.reason}{tries}"))
            pause = self.clock.jitter(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**failed))
            failed += 1
            self.completions.retries += 1
            server.retries += 1
            await self.clock.sleep(pause)

    async def _attempt(self, server: Endpoint, request: Request) -> ChatResponse | Failure:
        """One attempt, and what it tells about the server."""
        session, now = self.session, self.clock.now()
        cuts = server.limit.enter()
        try:
            outcome = await server.complete(session, request, now)
            if isinstance(outcome, ChatResponse):
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
            server.rest_until = max(server.rest_until, self.clock.now() + failure.retry_after)
        if failure.server and failure.again:
            server.failures += 1
            if server.failures >= endpoint.BREAK_AFTER and not server.down:
                server.down = True
                task = asyncio.create_task(self._revive(server, failure.reason))
                self._revivals.add(task)
                task.add_done_callback(self._revivals.discard)

    async def _revive(self, server: Endpoint, reason: str) -> None:
        """Ask a server that is down for its models, with growing pauses, until it answers."""
        began, tries = self.clock.now(), 0
        while True:
            await self.clock.sleep(self.clock.jitter(0.0, min(LONGEST_PROBE, FIRST_PAUSE * 2**tries)))
            tries += 1
            found = await server.models(self.session)
            if not isinstance(found, Failure) and found.status < 500:
                break
            if all(each.down for each in self.endpoints) and self.clock.now() - began > self.patience:
                self._lost = server.redact(f"{server.address}: {reason} (for {self.patience:g} seconds)")
                self._wake(len(self._waiting))
                return
        server.down = False
        server.failures = endpoint.BREAK_AFTER - 1  # one more failure and it is down again
        server.limit.restart()
        self._wake(len(self._waiting))

    async def _place(self, affinity: str) -> Endpoint:
        """A server that takes a call now; waits for one. ResumableError if all are gone."""
        while True:
            if self._lost is not None:
                raise ResumableError(self._lost)
            now = self.clock.now()
            up = [server for server in self.endpoints if not server.down]
            ready = [server for server in up if server.rest_until <= now]
            free = [server for server in ready if server.limit.free]
            if free:
                return _choose(free, affinity)
            if up and not ready:
                await self.clock.sleep(min(server.rest_until for server in up) - now)
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
        """Let the first `count` calls that wait look again."""
        while count and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1

    def _count(self, response: ChatResponse) -> None:
        self.completions.calls += 1
        if response.usage is not None:
            self.completions.tokens_in += response.usage.prompt_tokens
            self.completions.tokens_out += response.usage.completion_tokens


def call_id(request: Request) -> str:
    """Hash of a request's content: equal requests have the equal id, wherever the model is served."""
    return files.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")))


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
