"""GET /v1/models, /v1/models/NAME and /health."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server.access import Access


def routes(access: Access) -> list[Route]:
    """The routes that tell which models are served, and whether they take requests."""

    async def models(http: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [_card(model) for model in access.models.values()]})

    async def one(http: HttpRequest) -> Response:
        return JSONResponse(_card(access.model(http.path_params["name"])))

    async def health(http: HttpRequest) -> Response:
        if all(model.worker.accepting for model in access.models.values()):
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable"}, status_code=503)

    return [Route("/v1/models", models), Route("/v1/models/{name:path}", one), Route("/health", health)]


def _card(model: ServedModel) -> dict[str, str | int]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "aloe",
        "max_model_len": model.worker.context,
        "tokenizer_hash": model.chat_format.tokenizer.hash,
    }
