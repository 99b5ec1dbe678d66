"""The interface between the stages of a run and a model, over HTTP or in process.

A call is a pure request (the seed is explicit) with an id that is the hash of its content, so that what a model said
can be stored under it. The request says what is wanted and not how a server is told so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, NotRequired, Protocol, Required, Self, TypedDict, Unpack

from aloe_jax import files
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.limits import AdaptiveLimit
from aloe_jax.serve.protocol.usage import Usage
from aloe_jax.tree.schema import Message

JsonSchema = Mapping[str, object]


class RoleAndContent(TypedDict):
    """A message of a request."""

    role: str
    content: str


class Request(TypedDict):
    """A call as data. Its JSON is stored and hashed: names, order and values must not change."""

    model: str
    messages: list[RoleAndContent]
    seed: int
    n: int
    temperature: float
    top_p: float
    max_tokens: int
    logprobs: bool
    return_token_ids: bool
    top_logprobs: NotRequired[int]
    choices: NotRequired[list[str]]
    schema: NotRequired[dict[str, object]]
    chat_template_kwargs: NotRequired[dict[str, object]]
    reasoning_effort: NotRequired[str]


class SamplingOptions(TypedDict, total=False):
    """How tokens are drawn."""

    temperature: float  # default 1.0
    top_p: float  # 1.0
    max_tokens: int  # 256
    chat_template_kwargs: Mapping[str, object]  # none; only what is set enters the request
    reasoning_effort: str  # none


class CallOptions(SamplingOptions, total=False):
    """How a call is answered. Constrained to one of `choices` or to the JSON `schema`, the text is that or, where the
    server does not enforce constraints, whatever it says."""

    seed: Required[int]
    n: int  # default 1
    logprobs: bool  # True
    token_ids: bool  # True
    top_logprobs: int  # 0: none
    choices: Sequence[str]  # free
    schema: JsonSchema | None  # free


class Response(NamedTuple):
    """What a call gave: `n` answers, and the tokens as the server counts them (None where it does not)."""

    answers: list[Answer]
    usage: Usage | None


@dataclass
class Completions:
    """What went through a client so far, for progress displays. Tokens as the server counts them."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    retries: int = 0

    def add(self, usage: Usage | None) -> None:
        """Count one more call."""
        self.calls += 1
        if usage is not None:
            self.tokens_in += usage.prompt_tokens
            self.tokens_out += usage.completion_tokens


class EndpointStatus(Protocol):
    """What the status panel shows of a place where calls go."""

    address: str
    model: str
    limit: AdaptiveLimit
    answered: int
    retries: int
    down: bool


class ChatClient(Protocol):
    """Chat completions of one model. Use as `async with client`."""

    model: str
    completions: Completions
    endpoints: Sequence[EndpointStatus]  # where the calls go

    @property
    def waiting(self) -> int:
        """Calls that are not under way yet: they wait for a place, or pause before a retry."""
        ...

    async def respond(self, request: Request, affinity: str = "") -> Response:
        """The answers to a request. Calls of equal `affinity` prefer one server.

        Raises CallError (`call_errors.py`) where this request alone is refused or fails, InputError if the server
        refuses every request, and ResumableError if the model cannot be reached or keeps failing.
        """
        ...

    async def chat(
        self, messages: Sequence[Message], *, affinity: str = "", **options: Unpack[CallOptions]
    ) -> list[Answer]:
        """Completions of the dialogue; raises as `respond` does."""
        return (await self.respond(self.request(messages, **options), affinity)).answers

    def request(self, messages: Sequence[Message], **options: Unpack[CallOptions]) -> Request:
        """A call as data."""
        request: Request = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "seed": options["seed"],
            "n": options.get("n", 1),
            "temperature": options.get("temperature", 1.0),
            "top_p": options.get("top_p", 1.0),
            "max_tokens": options.get("max_tokens", 256),
            "logprobs": options.get("logprobs", True),
            "return_token_ids": options.get("token_ids", True),
        }
        if top_logprobs := options.get("top_logprobs", 0):
            request["top_logprobs"] = top_logprobs
        if choices := options.get("choices"):
            request["choices"] = list(choices)
        if (schema := options.get("schema")) is not None:
            request["schema"] = dict(schema)
        if kwargs := options.get("chat_template_kwargs"):
            request["chat_template_kwargs"] = dict(kwargs)
        if effort := options.get("reasoning_effort"):
            request["reasoning_effort"] = effort
        return request

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def call_id(request: Request) -> str:
    """Hash of a request's content: equal requests have the equal id, wherever the model is served."""
    return files.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")))
