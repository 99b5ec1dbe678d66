"""Asynchronous client for any OpenAI-compatible chat server; all data generation goes through it.

A call is a pure request (the seed is explicit) with an id that is the hash of its content, so that what a server said
can be stored under it. Trouble that passes (no connection, 429, 5xx, a torn answer) is waited out with growing random
pauses; trouble that lasts ends in ResumableError, a refused request in InputError.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import aiohttp
from pydantic import ValidationError
from yarl import URL

from aloe_jax import files
from aloe_jax.errors import AloeError, InputError, ResumableError
from aloe_jax.serve.protocol import ChatResponse, Choice
from aloe_jax.tree.schema import Message

# Seconds. Full jitter: each pause is uniform between 0 and min(LONGEST_PAUSE, FIRST_PAUSE * 2^attempt).
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
# A server that asks for a longer pause than this is better met by running the command again later.
LONGEST_RETRY_AFTER = 600.0
# Refusals that pass by themselves; every 5xx is treated alike.
PASSING = frozenset({408, 425, 429})
# Request fields that some servers refuse; where one is refused by name, the client goes on without it.
OPTIONAL = ("return_token_ids", "logprobs")


@dataclass(frozen=True)
class Answer:
    """One completion. None where the server does not give it: `token_ids` (end-of-turn included unless `finish_reason`
    is "length"), `logprobs` (one for each token id, or for each token the server reports), `tokenizer` (hash)."""

    text: str
    finish_reason: str
    token_ids: tuple[int, ...] | None
    logprobs: tuple[float, ...] | None
    tokenizer: str | None
    call: str


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


@dataclass(frozen=True)
class _Trouble:
    """Why an attempt gave no answer. `error` is set where trying again is pointless or has to end in that error."""

    reason: str
    retry_after: float | None = None
    again: bool = True
    error: type[AloeError] = ResumableError
    refused_field: str | None = None


@dataclass
class Client:
    """Chat completions from one server. Use as `async with Client(...) as client`.

    `base_url` includes the version (`http://127.0.0.1:8000/v1`). The key is read from the environment variable
    `api_key_env` (no header if it is not set) and appears in no message. At most `concurrency` calls are under way; a
    call that pauses before a retry keeps its place, so that a struggling server is not pressed. One attempt may take
    `timeout` seconds; `retries` more follow a failed one.

    Raises InputError for a `base_url` that is no plain HTTP address and for numbers out of range.
    """

    base_url: str
    model: str
    api_key_env: str = "ALOE_API_KEY"
    concurrency: int = 8
    timeout: float = 600.0
    retries: int = 6
    clock: Clock = field(default_factory=Clock, repr=False)
    completions: Completions = field(default_factory=Completions, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            url = URL(self.base_url)
            plain = url.scheme in ("http", "https") and url.host and not (url.user or url.password or url.query)
        except ValueError:
            plain = False
        if not plain:
            # The address is not repeated: a key may stand in it.
            raise InputError(
                "base_url must look like http://127.0.0.1:8000/v1, without user name, password or query; "
                f"put the key into the environment variable {self.api_key_env}"
            )
        for name, least in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; expected {least} or more")
        self.base_url = str(url).rstrip("/")
        self._places = asyncio.Semaphore(self.concurrency)
        self._refused: set[str] = set()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the semaphore is the bound
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def chat(
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
    ) -> list[Answer]:
        """`n` completions of the dialogue. Equal arguments give the equal `call` id, wherever that model is served.

        Raises InputError if the server refuses the request (the message is the server's) and ResumableError if it
        cannot be reached or keeps failing.
        """
        request: dict[str, Any] = {
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
        call = files.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")))
        async with self._places:
            response = await self._persist(request)
        self._count(response)
        return [_answer(choice, response.tokenizer_hash, call) for choice in response.choices]

    async def _persist(self, request: dict[str, Any]) -> ChatResponse:
        """Try until there is an answer, the trouble is final or the retries are used up."""
        failed = 0
        while True:
            # A field that is off is left out: not every server knows it.
            body = {name: value for name, value in request.items() if value is not False and name not in self._refused}
            outcome = await self._attempt(body)
            if isinstance(outcome, ChatResponse):
                return outcome
            if outcome.refused_field is not None:
                self._refused.add(outcome.refused_field)
                continue
            if not outcome.again or failed == self.retries:
                tries = f" ({failed + 1} attempts)" if failed else ""
                raise outcome.error(self._redact(f"{self.base_url}: {outcome.reason}{tries}"))
            pause = self.clock.jitter(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**failed))
            failed += 1
            self.completions.retries += 1
            await self.clock.sleep(max(pause, outcome.retry_after or 0.0))

    async def _attempt(self, body: dict[str, Any]) -> ChatResponse | _Trouble:
        # Errors become values here: an aiohttp error can hold the request's headers, and so the key, and must not
        # travel on as the context of ours.
        assert self._session is not None, "use the client in an `async with` block"
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            async with self._session.post(
                f"{self.base_url}/chat/completions", json=body, headers=headers, allow_redirects=False
            ) as reply:
                content = await reply.read()
        except TimeoutError:
            return _Trouble(f"no answer within {self.timeout:g} seconds; raise the timeout or lower the concurrency")
        except (aiohttp.ClientError, OSError) as error:
            reason = f"the server cannot be reached ({str(error) or type(error).__name__})"
            return _Trouble(f"{reason}; start it, then run the same command again")
        if reply.status == 200:
            return _read(content, body["n"])
        return self._refusal(reply, content, body)

    def _refusal(self, reply: aiohttp.ClientResponse, content: bytes, body: dict[str, Any]) -> _Trouble:
        """What an answer other than 200 means."""
        message = _error_message(content)
        reason = f"the server answers {reply.status}: {message}" if message else f"the server answers {reply.status}"
        if reply.status >= 500 or reply.status in PASSING:
            wait = self._retry_after(reply.headers.get("Retry-After"))
            if wait is not None and wait > LONGEST_RETRY_AFTER:
                return _Trouble(
                    f"{reason}; it asks to come back in {wait:.0f} seconds, run the command then", again=False
                )
            return _Trouble(reason, retry_after=wait)
        if reply.status in (401, 403):
            hint = f"check the key in the environment variable {self.api_key_env}"
            return _Trouble(f"{reason}; {hint}", again=False, error=InputError)
        if reply.status in (400, 422):
            for name in OPTIONAL:
                if name in body and name in message:
                    return _Trouble(reason, refused_field=name)
        return _Trouble(reason, again=False, error=InputError)

    def _retry_after(self, value: str | None) -> float | None:
        """Seconds that a Retry-After header (a number or an HTTP date) asks for; None if there is none to read."""
        if value is None:
            return None
        try:
            return max(0.0, float(value))
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - self.clock.now())
        except ValueError:
            return None

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    def _redact(self, text: str) -> str:
        """`text` without the key, should a server have echoed it."""
        key = self._key()
        return text.replace(key, "[redacted]") if key else text

    def _count(self, response: ChatResponse) -> None:
        self.completions.calls += 1
        if response.usage is not None:
            self.completions.tokens_in += response.usage.prompt_tokens
            self.completions.tokens_out += response.usage.completion_tokens


def _read(content: bytes, n: int) -> ChatResponse | _Trouble:
    """The answer in a 200 body, if it is whole."""
    try:
        response = ChatResponse.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return _Trouble(f"the server's answer is broken ({f'{place}: ' if place else ''}{first['msg']})")
    if len(response.choices) != n:
        reason = f"the server gives {len(response.choices)} choices where n={n} were asked"
        return _Trouble(f"{reason}; ask for n=1 or use a server that supports n", error=InputError)
    return response.model_copy(update={"choices": sorted(response.choices, key=lambda choice: choice.index)})


def _answer(choice: Choice, tokenizer: str | None, call: str) -> Answer:
    token_ids = None if choice.token_ids is None else tuple(choice.token_ids)
    logprobs = None
    if choice.logprobs is not None and choice.logprobs.content is not None:
        logprobs = tuple(token.logprob for token in choice.logprobs.content)
    if token_ids is not None and logprobs is not None and len(token_ids) != len(logprobs):
        logprobs = None  # they do not say which tokens they belong to
    return Answer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "stop",
        token_ids=token_ids,
        logprobs=logprobs,
        tokenizer=tokenizer if token_ids is not None else None,
        call=call,
    )


def _error_message(content: bytes) -> str:
    """The message of an OpenAI error object, else the start of the body."""
    try:
        data = json.loads(content)
    except ValueError:
        return " ".join(content[:200].decode(errors="replace").split())
    error = data.get("error", data) if isinstance(data, dict) else data
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else json.dumps(error, ensure_ascii=False)[:200]
