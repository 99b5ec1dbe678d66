"""The completions of one request: from its fields and prompts to what the engine draws, as it comes or all at once."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from aloe_jax.decode.requests import MAX_SEED, Completion, ConstraintError, Request
from aloe_jax.errors import InputError
from aloe_jax.serve.prompts import chat_prompt
from aloe_jax.serve.protocol.chat import ChatRequest
from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.protocol.sampling import SamplingFields
from aloe_jax.serve.protocol.usage import Usage
from aloe_jax.serve.reply_text import ReplyTexts, Stops, TextDelta
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.token_stream import TokenStream
from aloe_jax.serve.worker import OverloadedError, UnavailableError

T = TypeVar("T")
CONTEXT = 8  # tokens of a prompt, more than a decoder looks back


class Completed(NamedTuple):
    """Token ids of the prompt, and its completions."""

    prompt: list[int]
    completions: list[Completion]

    @property
    def usage(self) -> Usage:
        return Usage.of(len(self.prompt), sum(len(completion.token_ids) for completion in self.completions))


async def complete(model: ServedModel, request: ChatRequest, prompt: list[int] | None = None) -> Completed:
    """The whole completions of a chat request, after `prompt` if it is given in place of the messages; the engine's
    request is cancelled where this coroutine is.

    Raises ApiError: 400 for a request that the template or the engine refuses, 429 and 503 where the worker takes none.
    """
    prompt = chat_prompt(model, request) if prompt is None else prompt
    with refusals(request):
        [asked] = engine_requests(model, request, [prompt])
        return Completed(prompt, await asyncio.wrap_future(model.worker.submit(asked)))


class Generation:
    """The completions of a request's `prompts`, as they are decoded: `async for` gives their deltas, whose index counts
    the completions of all prompts. `score` also computes the log-probabilities of the prompts.

    Raises ApiError, here or while it is read: 400 for what the engine refuses, 429 and 503 where the worker takes no
    request. `cancel` ends what is left.
    """

    def __init__(
        self, model: ServedModel, request: SamplingFields, prompts: Sequence[Sequence[int]], score: bool = False
    ) -> None:
        self.request, self.prompts = request, prompts
        self._tokenizer = model.chat_format.tokenizer
        self._streams: list[TokenStream] = []
        try:
            with refusals(request):
                for asked in engine_requests(model, request, prompts, score):
                    self._streams.append(model.worker.stream(asked, live=request.stream))
        except ApiError:
            self.cancel()
            raise

    @property
    def count(self) -> int:
        """The number of completions."""
        return len(self.prompts) * self.request.n

    def cancel(self) -> None:
        """End the engine's requests; without effect once they are done."""
        for stream in self._streams:
            stream.cancel()

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        with refusals(self.request):
            async for delta in merged([self._texts(number) for number in range(len(self.prompts))]):
                yield delta

    async def _texts(self, number: int) -> AsyncIterator[TextDelta]:
        """The deltas of one prompt's completions."""
        request, first = self.request, number * self.request.n
        after = self.prompts[number][-CONTEXT:] if request.continues_text else ()
        stops = Stops(request.stops, request.include_stop_str_in_output, request.min_tokens)
        async for delta in ReplyTexts(self._streams[number], self._tokenizer, request.n, stops, after):
            yield replace(delta, index=first + delta.index)


def engine_requests(
    model: ServedModel, request: SamplingFields, prompts: Sequence[Sequence[int]], score: bool = False
) -> list[Request]:
    """The engine's request for each prompt. Without a seed one is drawn for each."""
    constraint = request.constraint[1] if request.constraint else None
    return [
        Request(
            prompt=tuple(prompt),
            sampling=request.sampling(model.worker.context - len(prompt)),
            seed=secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed,
            n=request.n,
            constraint=constraint,
            score=score,
        )
        for prompt in prompts
    ]


def stop_reason(request: SamplingFields, delta: TextDelta) -> str | int | None:
    """The stop string, or the id among the request's `stop_token_ids`, that ended a completion with this delta."""
    if delta.stop is None and delta.finish_reason == "stop":
        return next((token for token in delta.token_ids[-1:] if token in request.stop_token_ids), None)
    return delta.stop


@contextlib.contextmanager
def refusals(request: SamplingFields) -> Iterator[None]:
    """Turn what worker and engine raise into an ApiError."""
    try:
        yield
    except ConstraintError as error:
        field = request.constraint[0] if request.constraint else None
        raise ApiError(400, f"field '{field}': {error}", param=field) from None
    except InputError as error:
        first = str(error).split(maxsplit=1)[0]
        raise ApiError(400, str(error), param=first if first in type(request).model_fields else None) from None
    except OverloadedError as error:
        after = str(error.retry_after)
        message = f"too many requests are waiting; try again in {after} s"
        raise ApiError(429, message, type="rate_limit_error", headers={"Retry-After": after}) from None
    except UnavailableError:
        message = "the server is stopping or its decoding engine failed"
        raise ApiError(503, message, type="server_error") from None


async def merged(sources: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
    """The items of all sources as they come."""
    if len(sources) == 1:  # the usual case: no task per item
        async for item in sources[0]:
            yield item
        return
    waiting = {_next(source): source for source in sources}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = waiting.pop(task)
                for item in task.result():
                    waiting[_next(source)] = source
                    yield item
    finally:
        for task in waiting:
            task.cancel()


def _next(source: AsyncIterator[T]) -> asyncio.Task[list[T]]:
    """A task whose result is the next item, or nothing at the end."""

    async def first() -> list[T]:
        async for item in source:
            return [item]
        return []

    task = asyncio.create_task(first())
    task.add_done_callback(
        lambda task: task.cancelled() or task.exception()
    )  # or asyncio reports it where nobody reads
    return task
