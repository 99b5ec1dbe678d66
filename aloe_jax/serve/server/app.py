"""The HTTP application: the endpoints of an OpenAI-compatible server, a file per group."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from aloe_jax.serve.catalogue import Catalogue
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server import (
    chat_endpoint,
    completions_endpoint,
    models_endpoint,
    openapi,
    page_endpoint,
    tokens_endpoint,
)
from aloe_jax.serve.server.access import Access
from aloe_jax.serve.server.errors import HANDLERS
from aloe_jax.serve.trees_file import TreesFile

ENDPOINTS = (chat_endpoint, completions_endpoint, models_endpoint, tokens_endpoint)


def create_app(
    models: Sequence[ServedModel],
    *,
    max_body_bytes: int,
    wants_key: bool = False,
    trees: TreesFile | None = None,
    catalogue: Catalogue | None = None,
    more: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application behind `aloe serve`: the routes of `ENDPOINTS`, their description, the page, whose conversations
    `trees` keeps and which asks models for items of `catalogue`, and `more`. Errors are OpenAI-shaped objects.
    `wants_key` is whether its guards ask for a key."""
    access = Access(models, max_body_bytes, wants_key)
    routes = [route for endpoint in ENDPOINTS for route in endpoint.routes(access)]
    routes.append(openapi.route(operation for endpoint in ENDPOINTS for operation in endpoint.OPERATIONS))
    routes += page_endpoint.routes(access, trees, catalogue)
    app = Starlette(routes=[*routes, *more], exception_handlers=HANDLERS)
    app.router.redirect_slashes = False  # a path is right or unknown; a redirect would be no error that clients read
    return app
