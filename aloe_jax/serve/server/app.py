"""The HTTP application: the endpoints of an OpenAI-compatible server, a file per group."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.types import ASGIApp

from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server import chat_endpoint, completions_endpoint, models_endpoint
from aloe_jax.serve.server.access import MAX_BODY_BYTES, Access
from aloe_jax.serve.server.errors import HANDLERS
from aloe_jax.serve.server.guard import HOSTS, Guard

POLICY = "default-src 'none'; frame-ancestors 'none'"  # nothing here is a page
ENDPOINTS = (chat_endpoint, completions_endpoint, models_endpoint)


def create_app(
    models: Sequence[ServedModel], *, api_key: str | None = None, max_body_bytes: int = MAX_BODY_BYTES
) -> Starlette:
    """The application behind `aloe serve`: the routes of `ENDPOINTS`.

    With `api_key` every request that reaches a model must carry it as a bearer token. Errors are OpenAI-shaped objects.
    """
    access = Access(models, api_key, max_body_bytes)
    routes = [route for endpoint in ENDPOINTS for route in endpoint.routes(access)]
    return Starlette(routes=routes, exception_handlers=HANDLERS)


def guarded(app: ASGIApp, host: str) -> ASGIApp:
    """The application for a server without a key: it answers to `host` and the names of loopback, and to no page of
    another origin (DNS rebinding, cross-site requests)."""
    return Guard(app, POLICY, HOSTS | {host}, error=_refused_body, pages_only=False)


def _refused_body(status: int, sentence: str) -> object:
    return ApiError(status, sentence, code="forbidden").body
