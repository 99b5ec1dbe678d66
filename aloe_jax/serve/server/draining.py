"""A server that stops: what runs may finish, what comes is sent elsewhere."""

from __future__ import annotations

import math
import threading
import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from aloe_jax.serve.protocol.errors import ApiError


class Draining:
    """Counts the requests in `app`. From `begin` on /health says "draining", and every other new request is refused
    with 503 but for /metrics. The methods may be called by any thread."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._changed = threading.Condition()
        self._under_way = 0
        self._deadline: float | None = None

    def begin(self, seconds: float) -> None:
        """Refuse new requests; those who come are told that the server is gone after `seconds`."""
        with self._changed:
            self._deadline = time.monotonic() + seconds

    def wait(self) -> None:
        """Return when no request is under way, or the seconds are over."""
        with self._changed:
            assert self._deadline is not None, "begin was called"
            self._changed.wait_for(lambda: not self._under_way, self._deadline - time.monotonic())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._changed:
            deadline = self._deadline
            taken = deadline is None or scope["path"] == "/metrics"
            self._under_way += taken
        if not taken:
            assert deadline is not None
            await _refusal(scope["path"], deadline - time.monotonic())(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()


def _refusal(path: str, seconds: float) -> JSONResponse:
    headers = {"Retry-After": str(max(math.ceil(seconds), 1)), "Connection": "close"}
    if path == "/health":
        return JSONResponse({"status": "draining"}, 503, headers)
    refusal = ApiError(503, "the server is stopping and takes no more requests", type="server_error", code="draining")
    return JSONResponse(refusal.body, 503, headers)
