"""One server that serves one model: its address and key, what it can do, how much it is given, whether it is up."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import aiohttp
from pydantic import ConfigDict
from yarl import URL

from aloe_jax.errors import InputError
from aloe_jax.serve.client import answers, constraints
from aloe_jax.serve.client.answers import Failure
from aloe_jax.serve.client.limits import AdaptiveLimit
from aloe_jax.serve.protocol import ChatResponse
from aloe_jax.tree.schema import Record

# A server that asks for a longer pause than this is better met by running the command again later.
LONGEST_RETRY_AFTER = 600.0
# Refusals that pass by themselves; every 5xx is treated alike.
PASSING = frozenset({408, 425, 429})
# Request fields that some servers refuse; where one is refused by name, the client goes on without it.
OPTIONAL = ("return_token_ids", "top_logprobs", "logprobs")
# Failures one after the other from which on a server counts as down.
BREAK_AFTER = 5
FIRST_LIMIT = 16  # calls under way with which a server is met


class Abilities(Record):
    """What a server can do, as `probe` found it; the defaults are what `aloe serve` can do. `choice` and `schema` name
    the form (`constraints.py`) in which it keeps to a constraint, None if it keeps to none; `ignored` are the forms
    that it accepts without keeping to them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    models: tuple[str, ...] = ()
    answers_as: str = ""  # the model's name in its answers, where it is another than the one asked for
    choice: str | None = "structured_outputs"
    schema_form: str | None = "response_format"
    ignored: tuple[str, ...] = ()
    logprobs: bool = True
    top_logprobs: bool = True
    n: bool = True
    seed: bool = True
    system: bool = True


class RawResponse(NamedTuple):
    """What came back: status, body and, where there is one, the header Retry-After."""

    status: int
    content: bytes
    retry_after: str | None

    @property
    def passing(self) -> bool:
        """Whether it is a refusal that passes by itself."""
        return self.status >= 500 or self.status in PASSING


@dataclass
class Endpoint:
    """A server, reached over `session` once the client is entered. The key is read from the environment variable
    `api_key_env` at each call and stands in no message, record or repr."""

    address: str
    model: str
    api_key_env: str
    most: int
    timeout: float
    abilities: Abilities = field(default_factory=Abilities)
    refused: set[str] = field(default_factory=set)  # optional fields it does not take
    failures: int = 0  # one after the other
    down: bool = False
    rest_until: float = 0.0  # when it asked to come back
    retries: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        try:
            url = URL(self.address)
            plain = url.scheme in ("http", "https") and url.host and not (url.user or url.password or url.query)
        except ValueError:
            plain = False
        if not plain:
            # The address is not repeated: a key may stand in it.
            raise InputError(
                "base_url must look like http://127.0.0.1:8000/v1, without user name, password or query; "
                f"put the key into the environment variable {self.api_key_env}"
            )
        self.address = str(url).rstrip("/")
        self.limit = AdaptiveLimit(FIRST_LIMIT, self.most)

    async def complete(
        self, session: aiohttp.ClientSession, request: dict[str, Any], now: float
    ) -> ChatResponse | Failure:
        """One attempt at a request as `Client.request` makes it, put as this server understands it."""
        bodies = self._bodies(request)
        parts: list[ChatResponse] = []
        for body in bodies:
            part = await self._attempt(session, body, now)
            if isinstance(part, Failure):
                return part
            parts.append(part)
        response = parts[0] if len(parts) == 1 else _joined(parts)
        return self._kept(response, request) or response

    async def models(self, session: aiohttp.ClientSession) -> RawResponse | Failure:
        """What the server says to the question for its models."""
        return await self._exchange(session, "GET", "/models", None)

    async def post(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> RawResponse | Failure:
        """What the server says to a chat completion."""
        return await self._exchange(session, "POST", "/chat/completions", body)

    def redact(self, text: str) -> str:
        """`text` without the key, should a server have echoed it."""
        key = self._key()
        return text.replace(key, "[redacted]") if key else text

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    def _bodies(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The request as this server takes it: constraints in its form, n one by one and the system message folded
        into the user's where it has to be."""
        body = {name: value for name, value in request.items() if name not in ("choices", "schema")}
        if (choices := request.get("choices")) and self.abilities.choice:
            body |= constraints.CHOICE_FORMS[self.abilities.choice](choices)
        if (schema := request.get("schema")) and self.abilities.schema_form:
            body |= constraints.SCHEMA_FORMS[self.abilities.schema_form](schema)
        if not self.abilities.system:
            body["messages"] = folded(body["messages"])
        if not self.abilities.logprobs:
            body["logprobs"] = False
        if not (self.abilities.top_logprobs and body["logprobs"]):
            body.pop("top_logprobs", None)
        # A field that is off is left out: not every server knows it.
        body = {name: value for name, value in body.items() if value is not False and name not in self.refused}
        if self.abilities.n or body["n"] == 1:
            return [body]
        return [body | {"n": 1, "seed": body["seed"] + number} for number in range(body["n"])]

    async def _attempt(
        self, session: aiohttp.ClientSession, body: dict[str, Any], now: float
    ) -> ChatResponse | Failure:
        sent = await self.post(session, body)
        if isinstance(sent, Failure):
            return sent
        if sent.status != 200:
            return self._refusal(sent, body, now)
        response = answers.read(sent.content, body["n"])
        if isinstance(response, ChatResponse) and response.model not in ("", self.model, self.abilities.answers_as):
            return Failure(f"the server answers with the model '{response.model}' where '{self.model}' was asked")
        return response

    async def _exchange(
        self, session: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any] | None
    ) -> RawResponse | Failure:
        # Errors become values here: an aiohttp error can hold the request's headers, and so the key, and must not
        # travel on as the context of ours.
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

    def _refusal(self, sent: RawResponse, body: dict[str, Any], now: float) -> Failure:
        """What an answer other than 200 means."""
        status, message = sent.status, answers.error_message(sent.content)
        reason = f"the server answers {status}: {message}" if message else f"the server answers {status}"
        if sent.passing:
            wait = _seconds(sent.retry_after, now)
            if wait is not None and wait > LONGEST_RETRY_AFTER:
                return Failure(
                    f"{reason}; it asks to come back in {wait:.0f} seconds, run the command then", again=False
                )
            return Failure(reason, retry_after=wait, server=status >= 500, load=status == 429)
        if status in (401, 403):
            hint = f"check the key in the environment variable {self.api_key_env}"
            return Failure(f"{reason}; {hint}", again=False, error=InputError, server=False)
        if status in (400, 422):
            for name in OPTIONAL:
                if name in body and name in message:
                    return Failure(reason, refused_field=name, server=False)
        return Failure(reason, again=False, error=InputError, server=False)

    def _kept(self, response: ChatResponse, request: dict[str, Any]) -> Failure | None:
        """A Failure if a server that keeps to constraints did not keep to this one."""
        for choice in response.choices:
            text, whole = choice.message.content or "", choice.finish_reason != "length"
            if (
                request.get("choices")
                and self.abilities.choice
                and constraints.chosen(text, request["choices"]) is None
            ):
                return Failure(f"the server ignored the choices {', '.join(request['choices'])}: {text[:40]!r}")
            if request.get("schema") and self.abilities.schema_form and whole and constraints.parsed(text) is None:
                return Failure(f"the server ignored the JSON schema: {text[:40]!r}")
        return None


def folded(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Messages whose system message stands at the head of the first user message instead."""
    if messages[0]["role"] != "system":
        return messages
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    return [{"role": "user", "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]


def _joined(parts: list[ChatResponse]) -> ChatResponse:
    """Answers of one choice each as one of many."""
    choices = [part.choices[0].model_copy(update={"index": number}) for number, part in enumerate(parts)]
    usages = [part.usage for part in parts if part.usage is not None]
    usage = None
    if usages:
        usage = usages[0].model_copy(
            update={name: sum(getattr(each, name) for each in usages) for name in type(usages[0]).model_fields}
        )
    return parts[0].model_copy(update={"choices": choices, "usage": usage})


def _seconds(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header (a number or an HTTP date) asks for; None if there is none to read."""
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
