"""Restricts access to a server on loopback: to this machine, and in a browser to pages that it served itself.

Any web page can send requests to a server on loopback. A page of another origin is recognised by its `Origin`, a page
whose name was pointed at 127.0.0.1 after it was loaded (DNS rebinding) by its `Host`. Both are refused, and every
response forbids the browser to run anything that came with the data.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aloe_jax.serve.server.connections import ErrorBody, plain_error

HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses foreign requests with 403, a POST of a browser that is not JSON with 415, and adds `HEADERS` to every
    response, and `policy` (a Content-Security-Policy) to those without one. `hosts` are the names that the server
    answers to (None: all), `origins` pages elsewhere that may call it. `error` makes the body of a refusal; `remedy`
    says what to do about a name that is not known. With `pages_only` a POST has to come from a page, else from a
    program too, which sends no Origin."""

    def __init__(
        self,
        app: ASGIApp,
        policy: str,
        hosts: frozenset[str] | None = HOSTS,
        *,
        origins: frozenset[str] = frozenset(),
        error: ErrorBody = plain_error,
        pages_only: bool = True,
        remedy: str = "open it as http://127.0.0.1:PORT",
    ) -> None:
        self._app = app
        self._policy = policy
        self._hosts = hosts
        self._origins = origins
        self._error = error
        self._pages_only = pages_only
        self._remedy = remedy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Content-Security-Policy", self._policy)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, guarded)
            return
        status, sentence = refusal
        body = json.dumps(self._error(status, sentence)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await guarded({"type": "http.response.start", "status": status, "headers": headers})
        await guarded({"type": "http.response.body", "body": body})

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _name(host)
        if name is None or (self._hosts is not None and name not in self._hosts):
            return 403, f"this server answers to its own names only; {self._remedy}"
        # A name that is not this machine's may be that of a proxy, which speaks TLS in our place.
        own = {f"http://{host}"} if name in HOSTS else {f"http://{host}", f"https://{host}"}
        if origin is not None and origin not in own | self._origins:
            return 403, "requests of other web pages are refused"
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        if origin is None and not self._pages_only:
            return None
        if origin is None:
            return 403, "the header Origin is missing; label from the page, or send the server's own address in it"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "the body must be sent as application/json"
        return None


def _name(host: str) -> str | None:
    """The name in a Host header, without its port; None if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
