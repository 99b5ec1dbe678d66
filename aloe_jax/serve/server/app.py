"""The HTTP application: OpenAI-compatible chat completions over one decoding engine."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
import uuid
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aloe_jax.decode.requests import Completion, ConstraintError, Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.serve.protocol import (
    MAX_SEED,
    ApiError,
    ChatRequest,
    ChatResponse,
    Choice,
    Logprobs,
    ReplyMessage,
    TokenLogprob,
    TopLogprob,
    Usage,
    parse_request,
)
from aloe_jax.serve.server.http_server import read_body
from aloe_jax.serve.server.worker import OverloadedError, UnavailableError, Worker
from aloe_jax.tree.template import ChatFormat

MAX_BODY_BYTES = 8 * 2**20
# nginx's status for "client closed request"; nobody is there to read it, but middleware may count it.
CLIENT_GONE = 499


def create_app(
    worker: Worker,
    chat_format: ChatFormat,
    model_name: str,
    *,
    api_key: str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Starlette:
    """The application behind `aloe serve`: POST /v1/chat/completions, GET /v1/models, GET /health.

    With `api_key` every /v1 request must carry it as bearer token. Errors are OpenAI-shaped objects.
    """
    api = _Api(worker, chat_format, model_name, api_key, max_body_bytes)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", api.chat_completions, methods=["POST"]),
            Route("/v1/models", api.models),
            Route("/v1/models/{name:path}", api.model),
            Route("/health", api.health),
        ],
        exception_handlers={ApiError: _refuse, HTTPException: _refuse_http, Exception: _fail},
    )


class _Api:
    def __init__(
        self, worker: Worker, chat_format: ChatFormat, model_name: str, api_key: str | None, max_body_bytes: int
    ) -> None:
        self._worker = worker
        self._chat = chat_format
        self._name = model_name
        self._key = api_key
        self._max_body_bytes = max_body_bytes
        self._started = int(time.time())

    async def chat_completions(self, http: HttpRequest) -> Response:
        self._authorise(http)
        try:
            request = parse_request(await _body(http, self._max_body_bytes))
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        self._check_model(request.model)
        prompt = self._prompt(request)
        try:
            completions = await self._decode(http, self._engine_request(request, prompt))
        except ConstraintError as error:
            field = request.constraint[0] if request.constraint else None
            raise ApiError(400, f"field '{field}': {error}", param=field) from None
        except InputError as error:
            raise ApiError(400, str(error)) from None
        if completions is None:
            return Response(status_code=CLIENT_GONE)
        response = self._response(request, prompt, completions)
        if request.stream:
            return Response(_events(request, response), media_type="text/event-stream")
        return Response(response.model_dump_json(), media_type="application/json")

    async def models(self, http: HttpRequest) -> Response:
        self._authorise(http)
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, http: HttpRequest) -> Response:
        self._authorise(http)
        self._check_model(http.path_params["name"])
        return JSONResponse(self._card())

    async def health(self, http: HttpRequest) -> Response:
        if self._worker.accepting:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable"}, status_code=503)

    def _card(self) -> dict[str, str | int]:
        return {
            "id": self._name,
            "object": "model",
            "created": self._started,
            "owned_by": "aloe",
            "max_model_len": self._worker.context,
            "tokenizer_hash": self._chat.tokenizer.hash,
        }

    def _authorise(self, http: HttpRequest) -> None:
        if self._key is None:
            return
        sent = http.headers.get("authorization", "")
        # Constant time, so that response times do not tell how much of a guess was right.
        if not hmac.compare_digest(sent.encode(), f"Bearer {self._key}".encode()):
            raise ApiError(
                401,
                "missing or wrong API key; send the server's ALOE_API_KEY as 'Authorization: Bearer ...'",
                type="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_model(self, name: str) -> None:
        if name != self._name:
            message = f"model '{name}' is not served here; this server has '{self._name}'"
            raise ApiError(404, message, code="model_not_found", param="model")

    def _prompt(self, request: ChatRequest) -> list[int]:
        """Token ids of the prompt. ApiError (400) if the template refuses the messages or the reply has no room."""
        try:
            prompt = self._chat.prompt_ids(request.messages)
        except InputError as error:
            raise ApiError(400, str(error), param="messages") from None
        wanted = request.limit or 1
        if len(prompt) + wanted > self._worker.context:
            raise ApiError(
                400,
                f"the messages take {len(prompt)} tokens and the reply may take {wanted}, together more than the "
                f"model's context of {self._worker.context}; shorten the messages or lower max_tokens",
                code="context_length_exceeded",
                param="messages",
            )
        return prompt

    def _engine_request(self, request: ChatRequest, prompt: list[int]) -> Request:
        sampling = Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=max(request.top_k, 0),
            max_tokens=request.limit or self._worker.context - len(prompt),
            top_logprobs=request.top_logprobs,
        )
        constraint = request.constraint[1] if request.constraint else None
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        return Request(prompt=tuple(prompt), sampling=sampling, seed=seed, n=request.n, constraint=constraint)

    async def _decode(self, http: HttpRequest, request: Request) -> list[Completion] | None:
        """The completions, or None if the client went away before they were there (the request is cancelled then).
        InputError if the engine refuses the request."""
        try:
            answer = asyncio.wrap_future(self._worker.submit(request))
        except OverloadedError:
            message = "too many requests are waiting; try again later"
            raise ApiError(429, message, type="rate_limit_error", headers={"Retry-After": "1"}) from None
        except UnavailableError:
            raise _unavailable() from None
        # The body was read to its end: the next message can only be the disconnect.
        gone: asyncio.Future[Any] = asyncio.ensure_future(http.receive())
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else None
        except UnavailableError:
            raise _unavailable() from None
        finally:
            gone.cancel()
            answer.cancel()

    def _response(self, request: ChatRequest, prompt: list[int], completions: list[Completion]) -> ChatResponse:
        sampled = sum(len(completion.token_ids) for completion in completions)
        return ChatResponse(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=self._name,
            choices=[self._choice(request, index, completion) for index, completion in enumerate(completions)],
            usage=Usage(prompt_tokens=len(prompt), completion_tokens=sampled, total_tokens=len(prompt) + sampled),
            prompt_token_ids=prompt if request.return_token_ids else None,
            tokenizer_hash=self._chat.tokenizer.hash if request.return_token_ids else None,
        )

    def _choice(self, request: ChatRequest, index: int, completion: Completion) -> Choice:
        ids = list(completion.token_ids)
        shown = ids if completion.finish_reason == "length" else ids[:-1]  # a stopped reply ends with end-of-turn
        return Choice(
            index=index,
            message=ReplyMessage(content=self._chat.tokenizer.decode(shown)),
            logprobs=Logprobs(content=self._logprobs(completion)) if request.logprobs else None,
            finish_reason=completion.finish_reason,
            token_ids=ids if request.return_token_ids else None,
        )

    def _logprobs(self, completion: Completion) -> list[TokenLogprob]:
        sampled = zip(completion.token_ids, completion.log_probs, strict=True)
        content = [TokenLogprob(**self._token(*pair)) for pair in sampled]
        for token, top in zip(content, completion.top, strict=False):  # empty where it was not asked for
            token.top_logprobs = [TopLogprob(**self._token(*pair)) for pair in top]
        return content

    def _token(self, token: int, log_prob: float) -> dict[str, Any]:
        text = self._chat.tokenizer.decode([token], skip_special=False)
        whole = "\ufffd" not in text  # else the token holds a part of a character's bytes
        return {"token": text, "logprob": log_prob, "bytes": list(text.encode()) if whole else None}


async def _body(http: HttpRequest, limit: int) -> bytes:
    body = await read_body(http, limit)
    if body is None:
        raise ApiError(413, f"the body is larger than {limit} bytes; send a shorter conversation")
    return body


def _events(request: ChatRequest, response: ChatResponse) -> str:
    """The response as server-sent events: the engine hands back whole completions, so each choice is one chunk."""
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


def _unavailable() -> ApiError:
    return ApiError(503, "the server is stopping or its decoding engine failed", type="server_error")


# Starlette types handlers by the base class Exception; each is registered for the class it narrows to.
async def _refuse(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


async def _refuse_http(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = ApiError(error.status_code, f"{http.method} {http.url.path}: {error.detail}")
    return JSONResponse(refusal.body, status_code=error.status_code, headers=error.headers)


async def _fail(http: HttpRequest, error: Exception) -> Response:
    failure = ApiError(500, "the server failed on this request; its log says why", type="server_error")
    return JSONResponse(failure.body, status_code=500)
