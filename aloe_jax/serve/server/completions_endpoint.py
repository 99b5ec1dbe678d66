"""POST /v1/completions."""

from __future__ import annotations

from starlette.routing import Route

from aloe_jax.serve.server.access import Access


def routes(access: Access) -> list[Route]:
    """The route of text completions."""
    return []
