"""One server of one model: its address and key, its abilities, the load it is given, whether it is up."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp

from aloe_jax.errors import InputError
from aloe_jax.serve.client import answers, constraints
from aloe_jax.serve.client.abilities import Abilities, Body, bodies
from aloe_jax.serve.client.answers import Failure
from aloe_jax.serve.client.interface import Request, Response, call_id
from aloe_jax.serve.client.limits import AdaptiveLimit
from aloe_jax.serve.protocol import ChatResponse
from aloe_jax.serve.settings import plain_address

# Where a server asks for a longer pause than this, the command is better run again later.
LONGEST_RETRY_AFTER = 600.0
# Refusals that pass by themselves; so does every 5xx.
PASSING = frozenset({408, 425, 429})
# Request fields that some servers refuse; where one is refused by name, the client continues without it.
OPTIONAL = ("return_token_ids", "top_logprobs", "logprobs")
# Consecutive failures after which a server counts as down.
BREAK_AFTER = 5
FIRST_LIMIT = 16  # calls under way to begin with


class RawResponse(NamedTuple):
    """Status, body and, where there is one, the header Retry-After of an HTTP response."""

    status: int
    content: bytes
    retry_after: str | None

    @property
    def passing(self) -> bool:
        """Whether the refusal passes by itself."""
        return self.status >= 500 or self.status in PASSING


@dataclass
class Endpoint:
    """A server, reached over the session of an entered client. The key is read from the environment variable
    `api_key_env` at each call and appears in no message, record or repr."""

    address: str
    model: str
    api_key_env: str
    most: int
    timeout: float
    abilities: Abilities = field(default_factory=Abilities)
    refused: set[str] = field(default_factory=set)  # optional fields that it does not accept
    failures: int = 0  # consecutive ones
    down: bool = False
    rest_until: float = 0.0  # the time until which it asked for a pause
    retries: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        self.address = plain_address(self.address, self.api_key_env)
        self.limit = AdaptiveLimit(FIRST_LIMIT, self.most)

    async def complete(self, session: aiohttp.ClientSession, request: Request, now: float) -> Response | Failure:
        """One attempt at a request, in the form in which this server takes it."""
        put = bodies(request, self.abilities, self.refused)
        call, parts = call_id(request), []
        for body in put:
            part = await self._attempt(session, body, request["n"] // len(put), now)
            if isinstance(part, Failure):
                return part
            given = [answers.answer(choice, part.tokenizer_hash, call) for choice in part.choices]
            parts.append(Response(given, part.usage))
        response = parts[0] if len(parts) == 1 else _joined(parts)
        choices = request.get("choices") if self.abilities.choice else None
        schema = request.get("schema") if self.abilities.schema_form else None
        reasons = (constraints.broken(answer, choices, schema) for answer in response.answers)
        return next((Failure(reason) for reason in reasons if reason), response)

    async def models(self, session: aiohttp.ClientSession) -> RawResponse | Failure:
        """The server's answer to a request for its models."""
        return await self._exchange(session, "GET", "/models", None)

    async def post(self, session: aiohttp.ClientSession, body: Body) -> RawResponse | Failure:
        """The server's answer to a chat completion."""
        return await self._exchange(session, "POST", "/chat/completions", body)

    def redact(self, text: str) -> str:
        """`text` without the key, which a server may have echoed."""
        key = self._key()
        return text.replace(key, "[redacted]") if key else text

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    async def _attempt(self, session: aiohttp.ClientSession, body: Body, n: int, now: float) -> ChatResponse | Failure:
        raw = await self.post(session, body)
        if isinstance(raw, Failure):
            return raw
        if raw.status != 200:
            return self._refusal(raw, body, now)
        response = answers.read(raw.content, n)
        if isinstance(response, ChatResponse) and response.model not in ("", self.model, self.abilities.answers_as):
            return Failure(f"the server answers with the model '{response.model}' where '{self.model}' was asked")
        return response

    async def _exchange(
        self, session: aiohttp.ClientSession, method: str, path: str, body: Body | None
    ) -> RawResponse | Failure:
        # Errors become values here: an aiohttp error can hold the request's headers, and with them the key, and must
        # not become the context of ours.
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            headers["Content-Type"] = "application/json"
        try:
            async with session.request(
                method, f"{self.address}{path}", data=data, headers=headers, allow_redirects=False
            ) as reply:
                return RawResponse(reply.status, await reply.read(), reply.headers.get("Retry-After"))
        except TimeoutError:
            return Failure(f"no answer within {self.timeout:g} seconds; raise the timeout or lower the concurrency")
        except (aiohttp.ClientError, OSError) as error:
            reason = f"the server cannot be reached ({str(error) or type(error).__name__})"
            return Failure(f"{reason}; start it, then run the same command again")

    def _refusal(self, raw: RawResponse, body: Body, now: float) -> Failure:
        """The Failure that a status other than 200 means."""
        status, message = raw.status, answers.error_message(raw.content)
        reason = f"the server answers {status}: {message}" if message else f"the server answers {status}"
        if raw.passing:
            wait = _seconds(raw.retry_after, now)
            if wait is not None and wait > LONGEST_RETRY_AFTER:
                return Failure(f"{reason}; its Retry-After is {wait:.0f} seconds, run the command then", again=False)
            return Failure(reason, retry_after=wait, server=status >= 500, load=status == 429)
        if status in (401, 403):
            hint = f"check the key in the environment variable {self.api_key_env}"
            return Failure(f"{reason}; {hint}", again=False, error=InputError, server=False)
        if status in (400, 422):
            for name in OPTIONAL:
                if name in body and name in message:
                    return Failure(reason, refused_field=name, server=False)
        return Failure(reason, again=False, error=InputError, server=False)


def _joined(parts: Sequence[Response]) -> Response:
    """Responses of one answer each as one of many."""
    usages = [part.usage for part in parts if part.usage is not None]
    usage = None
    if usages:
        usage = usages[0].model_copy(
            update={name: sum(getattr(each, name) for each in usages) for name in type(usages[0]).model_fields}
        )
    return Response([answer for part in parts for answer in part.answers], usage)


def _seconds(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header (a number or an HTTP date) asks for; None if it cannot be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None
