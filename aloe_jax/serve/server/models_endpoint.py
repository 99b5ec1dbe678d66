"""GET /v1/models, /v1/models/NAME, /version and /health."""

from __future__ import annotations

import importlib.metadata
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server import delivery
from aloe_jax.serve.server.access import Access
from aloe_jax.serve.server.described import Operation


class ModelCard(BaseModel):
    """A served model. `max_model_len` is the maximum of a prompt's and its reply's tokens together."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["aloe"] = "aloe"
    max_model_len: int
    tokenizer_hash: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Version(BaseModel):
    version: str


class Health(BaseModel):
    """Whether all models take requests; the status is 503 if not."""

    status: Literal["ok", "unavailable", "draining"]


OPERATIONS = (
    Operation("get", "/v1/models", "The served models", answer=ModelList),
    Operation("get", "/v1/models/{name}", "One model", answer=ModelCard, refusals=(404,)),
    Operation("get", "/version", "The server's version", answer=Version),
    Operation("get", "/health", "Whether requests are taken", answer=Health, keyless=True),
)


def routes(access: Access) -> list[Route]:
    """The routes that tell which models are served, and whether they take requests."""

    async def models(http: HttpRequest) -> Response:
        return delivery.whole(ModelList(data=[_card(model) for model in access.models.values()]))

    async def one(http: HttpRequest) -> Response:
        return delivery.whole(_card(access.model(http.path_params["name"])))

    async def version(http: HttpRequest) -> Response:
        return delivery.whole(Version(version=importlib.metadata.version("aloe_jax")))

    async def health(http: HttpRequest) -> Response:
        if all(model.worker.accepting for model in access.models.values()):
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable"}, status_code=503)

    return [
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", one),
        Route("/version", version),
        Route("/health", health),
    ]


def _card(model: ServedModel) -> ModelCard:
    return ModelCard(
        id=model.name,
        created=model.created,
        max_model_len=model.worker.context,
        tokenizer_hash=model.chat_format.tokenizer.hash,
    )
