"""One server of one model: its address and key, its abilities, the load it is given, whether it is up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import answers, constraints
from aloe_jax.serve.client.abilities import Abilities, Body, bodies
from aloe_jax.serve.client.answers import Failure
from aloe_jax.serve.client.exchange import api_key, exchange
from aloe_jax.serve.client.interface import Request, Response, call_id
from aloe_jax.serve.client.limits import AdaptiveLimit
from aloe_jax.serve.client.refusals import RawResponse, error_inside, no_json, refusal
from aloe_jax.serve.client.response import GivenResponse, one_line
from aloe_jax.serve.settings import plain_address

# Consecutive failures after which a server counts as down.
BREAK_AFTER = 5
_DATED = re.compile(r"(?:[-@:_](?:v?\d[\d.-]*|latest|preview))*")
FIRST_LIMIT = 16  # calls under way to begin with


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
    probed: bool = False  # whether it has answered a probe

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
            ends = self.probed and self.abilities.finish
            given = [answers.answer(choice, part.tokenizer_hash, call, ends) for choice in part.choices]
            parts.append(Response(given, part.usage))
        response = parts[0] if len(parts) == 1 else _joined(parts)
        choices = request.get("choices") if self.abilities.choice else None
        schema = request.get("schema") if self.abilities.schema_form else None
        for answer in response.answers:
            if answer.finish_reason.lower() in answers.BROKEN_OFF:
                reason = f"the server broke an answer off (finish_reason '{answer.finish_reason}')"
                return Failure(reason, kind=f"finish_reason {answer.finish_reason}")
            if ignored := constraints.broken(answer, choices, schema):
                return Failure(ignored, kind="ignored constraint")
        return response

    async def models(self, session: aiohttp.ClientSession) -> RawResponse | Failure:
        """The server's answer to a request for its models."""
        return await self._exchange(session, "GET", "/models", None)

    async def post(self, session: aiohttp.ClientSession, body: Body) -> RawResponse | Failure:
        """The server's answer to a chat completion."""
        return await self._exchange(session, "POST", "/chat/completions", body)

    def redact(self, text: str) -> str:
        """`text` on one line and without the key, which a server may have echoed."""
        key = api_key(self.api_key_env)
        return one_line(text.replace(key, "[redacted]") if key else text)

    def refuse(self, raw: RawResponse, body: Body, now: float) -> Failure:
        """The Failure that a status other than 200 means."""
        return refusal(raw, body, self.address, self.api_key_env, now, known=self.probed or self.answered > 0)

    def read(self, raw: RawResponse, body: Body, n: int, now: float) -> GivenResponse | Failure:
        """The chat completion in a response."""
        if raw.status != 200:
            return self.refuse(raw, body, now)
        if page := no_json(raw, self.address):
            known = self.probed or self.answered > 0
            return Failure(page, again=known, error=ResumableError if known else InputError, kind="no JSON")
        if (inside := error_inside(raw)) is not None:
            return self.refuse(inside, body, now)
        return answers.read(raw.content, n)

    async def _attempt(self, session: aiohttp.ClientSession, body: Body, n: int, now: float) -> GivenResponse | Failure:
        raw = await self.post(session, body)
        if isinstance(raw, Failure):
            return raw
        response = self.read(raw, body, n, now)
        if isinstance(response, GivenResponse) and not self._is_own(response.model):
            reason = f"the server answers with the model '{response.model}' where '{self.model}' was asked"
            return Failure(reason, kind="another model")
        return response

    def _is_own(self, name: str) -> bool:
        """Whether an answer names the model: as it was asked for, as the probe found it, or with a date or tag."""
        return name in ("", self.model, self.abilities.answers_as) or same_model(self.model, name)

    async def _exchange(
        self, session: aiohttp.ClientSession, method: str, path: str, body: Body | None
    ) -> RawResponse | Failure:
        key = api_key(self.api_key_env)
        return await exchange(session, method, f"{self.address}{path}", key, body, self.timeout)


def same_model(asked: str, named: str) -> bool:
    """Whether a name in an answer is that of the model that was asked for, without its owner or with a date, a version
    or a tag behind it."""
    asked, named = (name.rpartition("/")[2].lower() for name in (asked, named))
    return (
        named.startswith(asked)
        and re.fullmatch(r"(?:[-@:_](?:v?\d[\d.-]*|latest|preview|\d+))*", named[len(asked) :]) is not None
    )


def _joined(parts: Sequence[Response]) -> Response:
    """Responses of one answer each as one of many."""
    usages = [part.usage for part in parts if part.usage is not None]
    usage = None
    if usages:
        usage = usages[0].model_copy(
            update={name: sum(getattr(each, name) for each in usages) for name in type(usages[0]).model_fields}
        )
    return Response([answer for part in parts for answer in part.answers], usage)
