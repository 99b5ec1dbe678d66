"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from aloe_jax.decode.requests import Completion
from aloe_jax.serve.chat_completions import ChatCompletions, Completed
from aloe_jax.serve.protocol.chat import (
    ChatRequest,
    ChatResponse,
    Choice,
    Logprobs,
    ReplyMessage,
    TokenLogprob,
    TopLogprob,
)
from aloe_jax.serve.protocol.parsing import parse_request
from aloe_jax.serve.server.access import Access

# nginx's status for "client closed request"; the client is gone, but middleware may count it.
CLIENT_GONE = 499


def routes(access: Access) -> list[Route]:
    """The route of chat completions."""

    async def chat_completions(http: HttpRequest) -> Response:
        try:
            request = parse_request(await access.body(http))
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        model = access.model(request.model)
        decoding = ChatCompletions(model.worker, model.chat_format)
        completed = await _decoded(http, decoding, request)
        if completed is None:
            return Response(status_code=CLIENT_GONE)
        response = _response(decoding, request, completed)
        if request.stream:
            return Response(_events(request, response), media_type="text/event-stream")
        return Response(response.model_dump_json(), media_type="application/json")

    return [Route("/v1/chat/completions", chat_completions, methods=["POST"])]


async def _decoded(http: HttpRequest, decoding: ChatCompletions, request: ChatRequest) -> Completed | None:
    """The engine's completions, or None if the client disconnected before (the request is cancelled then)."""
    # The whole body was read: the next message can only be the disconnect.
    gone = asyncio.ensure_future(http.receive())
    try:
        return await decoding.complete(request, gone)
    finally:
        gone.cancel()


def _response(decoding: ChatCompletions, request: ChatRequest, completed: Completed) -> ChatResponse:
    return ChatResponse(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        choices=[_choice(decoding, request, index, each) for index, each in enumerate(completed.completions)],
        usage=completed.usage,
        prompt_token_ids=completed.prompt if request.return_token_ids else None,
        tokenizer_hash=decoding.tokenizer_hash if request.return_token_ids else None,
    )


def _choice(decoding: ChatCompletions, request: ChatRequest, index: int, completion: Completion) -> Choice:
    return Choice(
        index=index,
        message=ReplyMessage(content=decoding.text(completion)),
        logprobs=Logprobs(content=_logprobs(decoding, completion)) if request.logprobs else None,
        finish_reason=completion.finish_reason,
        token_ids=list(completion.token_ids) if request.return_token_ids else None,
    )


def _logprobs(decoding: ChatCompletions, completion: Completion) -> list[TokenLogprob]:
    content = []
    tops = completion.top or ((),) * len(completion.token_ids)  # empty where it was not asked for
    for token, log_prob, top in zip(completion.token_ids, completion.log_probs, tops, strict=True):
        listed = [_token(decoding, *pair) for pair in top]
        content.append(TokenLogprob(**_token(decoding, token, log_prob).model_dump(), top_logprobs=listed))
    return content


def _token(decoding: ChatCompletions, token: int, log_prob: float) -> TopLogprob:
    text = decoding.token_text(token)
    whole = "\ufffd" not in text  # else the token holds a part of a character's bytes
    return TopLogprob(token=text, logprob=log_prob, bytes=list(text.encode()) if whole else None)


def _events(request: ChatRequest, response: ChatResponse) -> str:
    """The response as server-sent events: the engine returns whole completions, so each choice is one chunk."""
    frame = {"id": response.id, "object": "chat.completion.chunk", "created": response.created, "model": response.model}
    extra = {"prompt_token_ids": response.prompt_token_ids, "tokenizer_hash": response.tokenizer_hash}
    chunks = []
    for choice in response.choices:
        data = choice.model_dump()
        data["delta"] = data.pop("message")
        chunks.append({**frame, "choices": [data], **extra})
    if request.stream_options.include_usage and response.usage is not None:
        chunks.append({**frame, "choices": [], "usage": response.usage.model_dump()})
    lines = [json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
