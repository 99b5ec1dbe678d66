"""GET /openapi.json: the description of all operations, made of the models that check requests and write answers."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aloe_jax.serve.protocol.parsing import HARMLESS, NEUTRAL
from aloe_jax.serve.server.described import Operation

REFUSALS = (403, 500)
ASKING = (400, 404, 413, 415, 429, 503)  # those of a body that reaches a model
_REF = "#/components/schemas/{model}"


class ErrorObject(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every refusal."""

    error: ErrorObject


def route(operations: Iterable[Operation]) -> Route:
    """The route of the description."""
    text = description(operations)

    async def openapi(http: HttpRequest) -> Response:
        return JSONResponse(text)

    return Route("/openapi.json", openapi)


def description(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of the operations."""
    operations = list(operations)
    asked = {model for operation in operations for model in operation.asked}
    given = {model for operation in operations for model in (operation.answer, operation.chunk) if model} | {ErrorBody}
    modes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in sorted(asked, key=_name)),
        *((model, "serialization") for model in sorted(given, key=_name)),
    ]
    references, definitions = models_json_schema(modes, ref_template=_REF)
    schemas = definitions.get("$defs", {})
    for model in asked:
        name = references[model, "validation"]["$ref"].removeprefix(_REF.format(model=""))
        schemas[name] = _as_taken(schemas[name])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        bodies = [references[model, "validation"] for model in operation.asked]
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, bodies, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "aloe serve", "version": importlib.metadata.version("aloe_jax")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _as_taken(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a request as bodies are read: null is a field left out, and fields without effect may be there."""
    own, required = schema.get("properties", {}), schema.get("required", ())
    taken = {name: part if name in required else {"anyOf": [part, {"type": "null"}]} for name, part in own.items()}
    for name in HARMLESS:
        taken.setdefault(name, {"description": "without effect"})
    for name, values in NEUTRAL.items():
        taken.setdefault(name, {"enum": [*values, None]})
    return {**schema, "properties": dict(sorted(taken.items()))}


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _operation(operation: Operation, bodies: list[Any], references: dict[Any, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": references[operation.answer, "serialization"]}}
    if operation.chunk is not None:
        # The schema is that of the data of an event; OpenAPI has no other place for it.
        content["text/event-stream"] = {"schema": {"type": "string"}}
    statuses = {*operation.refusals, *REFUSALS, *(() if operation.keyless else (401,)), *(ASKING if bodies else ())}
    error = {"application/json": {"schema": references[ErrorBody, "serialization"]}}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{str(status): {"description": "A refusal", "content": error} for status in sorted(statuses)},
        },
    }
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    if names:
        schema = {"type": "string", "minLength": 1}
        found["parameters"] = [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]
    if bodies:
        schema = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if not operation.keyless:
        found["security"] = [{}, {"key": []}]
    return found
