"""Whatever goes wrong as an OpenAI-shaped error."""

from __future__ import annotations

import asyncio
import logging

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from aloe_jax.serve.protocol.errors import ApiError

# nginx's status for "client closed request"; the client is gone, but middleware may count it.
CLIENT_GONE = 499

log = logging.getLogger(__name__)


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
            await _failed()(scope, receive, send)


def failure() -> ApiError:
    """The error for what is no fault of the request."""
    return ApiError(500, "the server failed on this request; its log says why", type="server_error")


# Starlette types handlers by the base class Exception; each is registered for the class it narrows to.
async def _refuse(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


async def _refuse_http(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = ApiError(error.status_code, f"{http.method} {http.url.path}: {error.detail}")
    return JSONResponse(refusal.body, status_code=error.status_code, headers=error.headers)


async def _leave(http: HttpRequest, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _fail(http: HttpRequest, error: Exception) -> Response:
    return _failed()


def _failed() -> Response:
    return JSONResponse(failure().body, status_code=500)


HANDLERS: dict[int | type[Exception], ExceptionHandler] = {
    ApiError: _refuse,
    HTTPException: _refuse_http,
    ClientDisconnect: _leave,
    Exception: _fail,
}
