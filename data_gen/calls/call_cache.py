"""Calls through the store: what a server has said is kept, and an equal request is never paid for twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aloe_jax.serve.client import answers
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.client import Client, call_id
from aloe_jax.tree.schema import Message
from data_gen.calls.store import Store


class Chat(Protocol):
    """What a model-backed role talks through."""

    async def chat(self, messages: Sequence[Message], *, affinity: str = "", **how: Any) -> list[Answer]:
        """See `Client.chat`."""
        ...


@dataclass
class Usage:
    """What a role has asked for so far; `stored` answers came from the store."""

    calls: int = 0
    stored: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0  # from question to answer, summed over calls


@dataclass
class CallCache:
    """Implements `Chat` for one role. `template` is the hash of the prompts' wording, kept with each call."""

    client: Client
    store: Store
    role: str
    template: str
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[list[Answer]]] = {}

    async def chat(self, messages: Sequence[Message], *, affinity: str = "", **how: Any) -> list[Answer]:
        """The stored answers to this request, or the server's, stored before they are handed back."""
        request = self.client.request(messages, **how)
        name = call_id(request)
        if (stored := self.store.call(name)) is not None:
            self.usage.stored += 1
            return [_answer(each, name) for each in stored["answers"]]
        if (under_way := self._under_way.get(name)) is not None:
            return await asyncio.shield(under_way)
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._under_way[name] = future
        try:
            given = await self._ask(request, name, affinity)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            future.exception()  # it is raised here; nobody else may be waiting for it
            raise
        else:
            future.set_result(given)
            return given
        finally:
            del self._under_way[name]

    async def _ask(self, request: dict[str, Any], name: str, affinity: str) -> list[Answer]:
        began = time.monotonic()
        response = await self.client.respond(request, affinity)
        seconds = time.monotonic() - began
        given = [answers.answer(choice, response.tokenizer_hash, name) for choice in response.choices]
        record: dict[str, Any] = {"role": self.role, "template": self.template, "seconds": round(seconds, 3)}
        if response.usage is not None:
            record["tokens"] = [response.usage.prompt_tokens, response.usage.completion_tokens]
            self.usage.tokens_in += response.usage.prompt_tokens
            self.usage.tokens_out += response.usage.completion_tokens
        record |= {"request": request, "answers": [_stored(each) for each in given]}
        self.store.add_call(name, record)
        self.usage.calls += 1
        self.usage.seconds += seconds
        return given


def _stored(answer: Answer) -> dict[str, Any]:
    return {name: value for name, value in vars(answer).items() if value is not None and name != "call"}


def _answer(stored: Mapping[str, Any], name: str) -> Answer:
    """An answer as it was given: JSON has lists for tuples."""
    top = stored.get("top")
    return Answer(
        text=stored["text"],
        finish_reason=stored["finish_reason"],
        token_ids=_tuple(stored.get("token_ids")),
        logprobs=_tuple(stored.get("logprobs")),
        tokenizer=stored.get("tokenizer"),
        call=name,
        tokens=_tuple(stored.get("tokens")),
        top=None if top is None else tuple(tuple((text, value) for text, value in each) for each in top),
    )


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
