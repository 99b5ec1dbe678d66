"""Calls through the store: an answer is kept once it was given, and an equal request is never paid for twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Unpack

from pydantic import TypeAdapter

from aloe_jax.errors import InputError
from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.interface import CallOptions, ChatClient, Request, call_id
from aloe_jax.tree.schema import Message
from data_gen.calls.store import CALLS, REMEDY, Store

_ANSWER = TypeAdapter(Answer)


class Chat(Protocol):
    """The chat interface of a model-backed role."""

    async def chat(
        self, messages: Sequence[Message], *, affinity: str = "", **options: Unpack[CallOptions]
    ) -> list[Answer]:
        """See `ChatClient.chat`."""
        ...


@dataclass
class Usage:
    """What a role has used so far; `stored` answers came from the store. `thoughts` is the number of answers from which
    thoughts were cut, `said` the text of the last answer."""

    calls: int = 0
    stored: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0  # from request to answer, summed over calls
    thoughts: int = 0
    said: str = ""


@dataclass
class CallCache:
    """Implements `Chat` for one role. `template` is the hash of the prompts' wording, kept with each call. With `again`
    every request is sent once more, and its answer takes the place of the stored one: what a broken server said."""

    client: ChatClient
    store: Store
    role: str
    template: str
    usage: Usage = field(default_factory=Usage)
    again: bool = False

    def __post_init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[list[Answer]]] = {}
        self._sent: set[str] = set()

    async def chat(
        self, messages: Sequence[Message], *, affinity: str = "", **options: Unpack[CallOptions]
    ) -> list[Answer]:
        """The stored answers to this request, or the model's, stored before they are returned."""
        request = self.client.request(messages, **options)
        name = call_id(request)
        if (not self.again or name in self._sent) and (stored := self.store.call(name)) is not None:
            self.usage.stored += 1
            try:
                return [_answer(each, name) for each in stored["answers"]]
            except (ValueError, TypeError):
                where = self.store.directory / f"{CALLS}.jsonl"
                raise InputError(f"{where}: the stored answers of call {name} are damaged; {REMEDY}") from None
        while (under_way := self._under_way.get(name)) is not None:
            await asyncio.wait([under_way])
            if not under_way.cancelled():
                return under_way.result()
            # The conversation that made the call was given up meanwhile: make it for this one.
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._under_way[name] = future
        try:
            given = await self._respond(request, name, affinity)
        except Exception as error:
            future.set_exception(error)
            future.exception()  # it is raised here; nobody else may be waiting for it
            raise
        except BaseException:
            future.cancel()
            raise
        else:
            future.set_result(given)
            return given
        finally:
            del self._under_way[name]

    async def _respond(self, request: Request, name: str, affinity: str) -> list[Answer]:
        began = time.monotonic()
        given, usage = await self.client.respond(request, affinity)
        seconds = time.monotonic() - began
        record: dict[str, object] = {"role": self.role, "template": self.template, "seconds": round(seconds, 3)}
        if usage is not None:
            record["tokens"] = [usage.prompt_tokens, usage.completion_tokens]
            self.usage.tokens_in += usage.prompt_tokens
            self.usage.tokens_out += usage.completion_tokens
        record |= {"request": request, "answers": [_stored(each) for each in given]}
        self.store.add_call(name, record)
        self._sent.add(name)
        self.usage.calls += 1
        self.usage.seconds += seconds
        self.usage.thoughts += sum(each.thought is not None for each in given)
        self.usage.said = given[-1].text
        return given


def _stored(answer: Answer) -> dict[str, object]:
    return {name: value for name, value in vars(answer).items() if value is not None and name != "call"}


def _answer(stored: Mapping[str, object], name: str) -> Answer:
    """An answer as it was given: JSON has lists for tuples."""
    return _ANSWER.validate_python({**stored, "call": name})
