"""The key that requests carry, asked for before anything else looks at them."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from aloe_jax.serve.protocol.errors import ApiError

OPEN_PATHS = frozenset({"/", "/health"})  # the page, which holds nothing, and what a load balancer asks


class Key:
    """Lets requests to `app` pass that carry `key` as a bearer token, and those to `OPEN_PATHS`."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._carried(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refusal = ApiError(
            401,
            "missing or wrong API key; send the server's ALOE_API_KEY as 'Authorization: Bearer ...'",
            type="authentication_error",
            code="invalid_api_key",
        )
        await JSONResponse(refusal.body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _carried(self, headers: Headers) -> bool:
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        # Constant time, so that response times do not reveal how much of a guess was right.
        return hmac.compare_digest(sent.strip().encode(), self._key) and scheme.lower() == "bearer"
