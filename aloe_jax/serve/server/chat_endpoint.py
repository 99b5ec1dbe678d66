"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from aloe_jax.serve.generation import Generation, stop_reason
from aloe_jax.serve.prompts import chat_prompt
from aloe_jax.serve.protocol.chat import (
    ChatChunk,
    ChatRequest,
    ChatResponse,
    Choice,
    ChunkChoice,
    ChunkDelta,
    Logprobs,
    ReplyMessage,
    TokenLogprob,
    TopLogprob,
)
from aloe_jax.serve.protocol.parsing import parse_request
from aloe_jax.serve.protocol.usage import Usage
from aloe_jax.serve.reply_text import TextDelta
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server import delivery
from aloe_jax.serve.server.access import Access
from aloe_jax.serve.server.described import Operation

OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "Reply to messages", answer=ChatResponse, asked=(ChatRequest,), chunk=ChatChunk
    ),
)


def routes(access: Access) -> list[Route]:
    """The route of chat completions."""

    async def chat_completions(http: HttpRequest) -> Response:
        request = parse_request(await access.body(http), ChatRequest)
        model = access.model(request.model)
        # Rendering and tokenising a long history takes a while; others are answered meanwhile.
        prompt = await asyncio.to_thread(chat_prompt, model, request)
        return await delivery.answered(http, Generation(model, request, [prompt]), _Answer(model, request, prompt))

    return [Route("/v1/chat/completions", chat_completions, methods=["POST"])]


class _Answer:
    """Puts completions of one request into OpenAI's form."""

    def __init__(self, model: ServedModel, request: ChatRequest, prompt: Sequence[int]) -> None:
        self._model, self._request, self._prompt = model, request, prompt
        self._frame: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
        }
        self._ids: dict[str, Any] = {}
        if request.return_token_ids:
            self._ids = {"prompt_token_ids": list(prompt), "tokenizer_hash": model.chat_format.tokenizer.hash}

    def whole(self, completions: Sequence[TextDelta]) -> ChatResponse:
        """The answer in one piece."""
        choices = [Choice(message=ReplyMessage(content=each.text), **self._parts(each)) for each in completions]
        sampled = sum(len(each.token_ids) for each in completions)
        return ChatResponse(choices=choices, usage=Usage.of(len(self._prompt), sampled), **self._frame, **self._ids)

    async def chunks(self, generation: Generation) -> AsyncIterator[str]:
        """The answer as JSON texts: the role of each choice, what comes, and perhaps the usage."""
        options, sampled = self._request.stream_options, 0

        def text(choices: list[ChunkChoice], counted: bool, **ids: Any) -> str:
            usage = Usage.of(len(self._prompt), sampled) if counted else None
            chunk = ChatChunk(choices=choices, usage=usage, **self._frame, **ids)
            return chunk.model_dump_json(exclude=options.left_out)

        role = ChunkDelta(role="assistant", content="")
        roles = [ChunkChoice(index=index, delta=role) for index in range(self._request.n)]
        begun = False
        async for delta in generation:
            if not begun:  # not before, so that a request that the engine refuses has no chunks
                yield text(roles[:1], options.continuous_usage_stats, **self._ids)
                for choice in roles[1:]:
                    yield text([choice], options.continuous_usage_stats)
                begun = True
            sampled += len(delta.token_ids)
            new = ChunkChoice(delta=ChunkDelta(content=delta.text), **self._parts(delta))
            yield text([new], options.continuous_usage_stats)
        if options.include_usage:
            yield text([], True)

    def _parts(self, delta: TextDelta) -> dict[str, Any]:
        """The fields of a choice that describe its tokens."""
        request = self._request
        return {
            "index": delta.index,
            "logprobs": Logprobs(content=self._logprobs(delta)) if request.logprobs else None,
            "finish_reason": delta.finish_reason,
            "stop_reason": stop_reason(request, delta),
            "token_ids": list(delta.token_ids) if request.return_token_ids else None,
        }

    def _logprobs(self, delta: TextDelta) -> list[TokenLogprob]:
        content = []
        tops = delta.top or ((),) * len(delta.token_ids)  # empty where it was not asked for
        for token, log_prob, top in zip(delta.token_ids, delta.log_probs, tops, strict=True):
            listed = [TopLogprob(**self._fields(*pair)) for pair in top]
            content.append(TokenLogprob(**self._fields(token, log_prob), top_logprobs=listed))
        return content

    def _fields(self, token: int, log_prob: float) -> dict[str, Any]:
        """What is told of a token."""
        text = self._model.token_text(token)
        whole = "\ufffd" not in text  # else the token holds a part of a character's bytes
        return {"token": text, "logprob": log_prob, "bytes": list(text.encode()) if whole else None}
