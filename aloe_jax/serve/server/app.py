"""The HTTP application: OpenAI-compatible chat completions over one decoding engine."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import uuid

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aloe_jax.decode.requests import Completion
from aloe_jax.serve.chat_completions import ChatCompletions, Completed
from aloe_jax.serve.protocol import (
    ApiError,
    ChatRequest,
    ChatResponse,
    Choice,
    Logprobs,
    ReplyMessage,
    TokenLogprob,
    TopLogprob,
    parse_request,
)
from aloe_jax.serve.server.guard import HOSTS, Guard
from aloe_jax.serve.server.http_server import read_body
from aloe_jax.serve.server.page import page_routes
from aloe_jax.serve.trees_file import TreesFile
from aloe_jax.serve.worker import Worker
from aloe_jax.tree.template import ChatFormat

MAX_BODY_BYTES = 8 * 2**20
# nginx's status for "client closed request"; the client is gone, but middleware may count it.
CLIENT_GONE = 499
POLICY = "default-src 'none'; frame-ancestors 'none'"  # of all but the page

log = logging.getLogger(__name__)


def create_app(
    worker: Worker,
    chat_format: ChatFormat,
    model_name: str,
    *,
    api_key: str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    trees: TreesFile | None = None,
) -> Starlette:
    """The application behind `aloe serve`: POST /v1/chat/completions, GET /v1/models, GET /health, and the page, whose
    conversations `trees` keeps (`page.py`).

    With `api_key` every /v1 request must carry it as a bearer token. Errors are OpenAI-shaped objects.
    """
    api = _Api(worker, chat_format, model_name, api_key, max_body_bytes)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", api.chat_completions, methods=["POST"]),
            Route("/v1/models", api.models),
            Route("/v1/models/{name:path}", api.model),
            Route("/health", api.health),
            *page_routes(api.authorise, key=api_key is not None, trees=trees, max_body_bytes=max_body_bytes),
        ],
        exception_handlers={ApiError: _refuse, HTTPException: _refuse_http, Exception: _fail},
    )


class _Api:
    def __init__(
        self, worker: Worker, chat_format: ChatFormat, model_name: str, api_key: str | None, max_body_bytes: int
    ) -> None:
        self._worker = worker
        self._decoding = ChatCompletions(worker, chat_format)
        self._name = model_name
        self._key = api_key
        self._max_body_bytes = max_body_bytes
        self._started = int(time.time())

    async def chat_completions(self, http: HttpRequest) -> Response:
        self.authorise(http)
        try:
            request = parse_request(await _body(http, self._max_body_bytes))
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        self._check_model(request.model)
        completed = await self._decoded(http, request)
        if completed is None:
            return Response(status_code=CLIENT_GONE)
        response = self._response(request, completed)
        if request.stream:
            return Response(_events(request, response), media_type="text/event-stream")
        return Response(response.model_dump_json(), media_type="application/json")

    async def models(self, http: HttpRequest) -> Response:
        self.authorise(http)
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, http: HttpRequest) -> Response:
        self.authorise(http)
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
            "tokenizer_hash": self._decoding.tokenizer_hash,
        }

    def authorise(self, http: HttpRequest) -> None:
        """Raises ApiError (401) for a request without the key."""
        if self._key is None:
            return
        sent = http.headers.get("authorization", "")
        # Constant time, so that response times do not reveal how much of a guess was right.
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

    async def _decoded(self, http: HttpRequest, request: ChatRequest) -> Completed | None:
        """The engine's completions, or None if the client disconnected before (the request is cancelled then)."""
        # The whole body was read: the next message can only be the disconnect.
        gone = asyncio.ensure_future(http.receive())
        try:
            return await self._decoding.complete(request, gone)
        finally:
            gone.cancel()

    def _response(self, request: ChatRequest, completed: Completed) -> ChatResponse:
        return ChatResponse(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=self._name,
            choices=[self._choice(request, index, each) for index, each in enumerate(completed.completions)],
            usage=completed.usage,
            prompt_token_ids=completed.prompt if request.return_token_ids else None,
            tokenizer_hash=self._decoding.tokenizer_hash if request.return_token_ids else None,
        )

    def _choice(self, request: ChatRequest, index: int, completion: Completion) -> Choice:
        return Choice(
            index=index,
            message=ReplyMessage(content=self._decoding.text(completion)),
            logprobs=Logprobs(content=self._logprobs(completion)) if request.logprobs else None,
            finish_reason=completion.finish_reason,
            token_ids=list(completion.token_ids) if request.return_token_ids else None,
        )

    def _logprobs(self, completion: Completion) -> list[TokenLogprob]:
        content = []
        tops = completion.top or ((),) * len(completion.token_ids)  # empty where it was not asked for
        for token, log_prob, top in zip(completion.token_ids, completion.log_probs, tops, strict=True):
            listed = [self._token(*pair) for pair in top]
            content.append(TokenLogprob(**self._token(token, log_prob).model_dump(), top_logprobs=listed))
        return content

    def _token(self, token: int, log_prob: float) -> TopLogprob:
        text = self._decoding.token_text(token)
        whole = "\ufffd" not in text  # else the token holds a part of a character's bytes
        return TopLogprob(token=text, logprob=log_prob, bytes=list(text.encode()) if whole else None)


async def _body(http: HttpRequest, limit: int) -> bytes:
    body = await read_body(http, limit)
    if body is None:
        raise ApiError(413, f"the body is larger than {limit} bytes; send a shorter conversation")
    return body


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


class OpenAiErrors:
    """Answers with an OpenAI-shaped error where `app` raises anything, a panic of a native library too, which is no
    Exception and passes the application's handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            log.exception("a request failed")
            if begun or scope["type"] != "http":
                return  # the application's own handler has answered
            await _failure()(scope, receive, send)


def guarded(app: ASGIApp, host: str) -> ASGIApp:
    """The application for a server without a key: it answers to `host` and the names of loopback, and to no page of
    another origin (DNS rebinding, cross-site requests)."""
    return Guard(app, POLICY, HOSTS | {host}, error=_refused_body, pages_only=False)


def _refused_body(status: int, sentence: str) -> object:
    return ApiError(status, sentence, code="forbidden").body


# Starlette types handlers by the base class Exception; each is registered for the class it narrows to.
async def _refuse(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


async def _refuse_http(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = ApiError(error.status_code, f"{http.method} {http.url.path}: {error.detail}")
    return JSONResponse(refusal.body, status_code=error.status_code, headers=error.headers)


async def _fail(http: HttpRequest, error: Exception) -> Response:
    return _failure()


def _failure() -> Response:
    failure = ApiError(500, "the server failed on this request; its log says why", type="server_error")
    return JSONResponse(failure.body, status_code=500)
