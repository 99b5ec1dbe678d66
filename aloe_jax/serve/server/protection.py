"""What stands between the network and the application."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.server.errors import OpenAiErrors
from aloe_jax.serve.server.guard import HOSTS, Guard
from aloe_jax.serve.server.key import Key
from aloe_jax.serve.server.settings import ServerSettings

POLICY = "default-src 'none'; frame-ancestors 'none'"  # of all but the page, which has its own


def protected(app: ASGIApp, host: str, key: str | None, settings: ServerSettings) -> ASGIApp:
    """`app` behind its guards, for a server that listens on `host`. The key is asked for last, since a browser sends
    none when it asks whether a page may call.

    Without a key the server answers to names of this machine, to `host` and to those in the settings. With one it
    answers to every name, unless the settings have some. Pages of other origins are refused but for those named.
    """
    if key is not None:
        app = Key(app, key)
    app = OpenAiErrors(app)
    if settings.origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
            allow_private_network=True,  # a page of the network may call a server on loopback
        )
    hosts = HOSTS | {host, *settings.hosts} if key is None or settings.hosts else None
    return Guard(
        app,
        POLICY,
        hosts,
        origins=frozenset(settings.origins),
        error=error_body,
        pages_only=False,
        remedy="call it as http://127.0.0.1:PORT, or start it with --allow-host=NAME",
    )


def error_body(status: int, sentence: str) -> object:
    """An OpenAI-shaped error for what never reached the application."""
    codes = {403: "forbidden", 408: "timeout", 415: "forbidden", 503: "overloaded"}
    return ApiError(status, sentence, code=codes.get(status, "bad_request")).body
