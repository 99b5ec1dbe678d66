"""How an answer leaves: whole, or as server-sent events; and what happens where the client goes away before."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Protocol, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from aloe_jax.serve.generation import Generation
from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.reply_text import TextDelta, joined
from aloe_jax.serve.server.errors import failure

T = TypeVar("T")

log = logging.getLogger(__name__)


def whole(answer: BaseModel) -> Response:
    """The answer in one piece."""
    return Response(answer.model_dump_json(), media_type="application/json")


class Answer(Protocol):
    """What puts the completions of a request into the form of its protocol: whole, or chunk by chunk as JSON texts."""

    def whole(self, completions: Sequence[TextDelta]) -> BaseModel: ...

    def chunks(self, generation: Generation) -> AsyncIterator[str]: ...


async def answered(http: HttpRequest, generation: Generation, answer: Answer) -> Response:
    """The answer to a request, streamed where it asks for that. Raises what the generation raises before its first
    delta, so that a refusal has its own status, and ClientDisconnect."""
    if generation.request.stream:
        return await _events(http, generation, answer.chunks(generation))
    return whole(answer.whole(await _collected(http, generation)))


async def _collected(http: HttpRequest, generation: Generation) -> list[TextDelta]:
    """The completions of a generation, whole and in order. Raises as it does, and ClientDisconnect."""
    parts: list[list[TextDelta]] = [[] for _ in range(generation.count)]

    async def read() -> None:
        async for delta in generation:
            parts[delta.index].append(delta)

    try:
        await _unless_gone(http, read())
    finally:
        generation.cancel()
    return [joined(each) for each in parts]


async def _events(http: HttpRequest, generation: Generation, chunks: AsyncIterator[str]) -> Response:
    """The response that sends `chunks`, JSON texts made from the generation."""
    try:
        first = await _unless_gone(http, _next(chunks))
    except BaseException:
        generation.cancel()
        raise
    return _EventStream(generation, _lines(first, chunks))


class _EventStream(StreamingResponse):
    """Ends the generation where the response ends, complete or not."""

    def __init__(self, generation: Generation, lines: AsyncIterator[str]) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.cancel()


async def _lines(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    """The events, one line each. An error is the last one: a reply that was cut off does not end with [DONE]."""
    yield f"data: {first}\n\n"
    try:
        async for chunk in rest:
            yield f"data: {chunk}\n\n"
    except ApiError as error:
        yield f"data: {json.dumps(error.body)}\n\n"
    except Exception:
        log.exception("a stream failed")
        yield f"data: {json.dumps(failure().body)}\n\n"
    else:
        yield "data: [DONE]\n\n"


async def _next(chunks: AsyncIterator[str]) -> str:
    return await anext(chunks)


async def _unless_gone(http: HttpRequest, work: Coroutine[None, None, T]) -> T:
    """The result of `work`, which is cancelled where the client disconnects before. Raises ClientDisconnect then."""
    # The whole body was read: the next message can only be the disconnect.
    task, gone = asyncio.create_task(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
