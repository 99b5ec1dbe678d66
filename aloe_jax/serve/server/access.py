"""What every endpoint does first: check the key, read the body, find the model."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.requests import Request as HttpRequest

from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server.http_server import read_body

MAX_BODY_BYTES = 8 * 2**20


class Access:
    """The way to `models`. With `api_key` every request must carry it as a bearer token. A body has at most
    `max_body_bytes`."""

    def __init__(self, models: Sequence[ServedModel], api_key: str | None, max_body_bytes: int) -> None:
        self.models = {model.name: model for model in models}
        self._key = api_key
        self._max_body_bytes = max_body_bytes

    def authorise(self, http: HttpRequest) -> None:
        """Raises ApiError (401) unless the request carries the key."""
        if self._key is None:
            return
        sent = http.headers.get("authorization", "")
        # Constant time, so that response times do not reveal how much of a guess was right.
        if not hmac.compare_digest(sent.encode(), f"Bearer {self._key}".encode()):
            raise ApiError(
                401,
                "missing or wrong API key; send the server's ALOE_API_KEY as 'Authorization: Bearer ...'",
                type="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def body(self, http: HttpRequest) -> bytes:
        """The body of a request that carries the key. Raises ApiError (401, 413), and ClientDisconnect."""
        self.authorise(http)
        body = await read_body(http, self._max_body_bytes)
        if body is None:
            raise ApiError(413, f"the body is larger than {self._max_body_bytes} bytes; send a shorter conversation")
        return body

    def model(self, name: str | None) -> ServedModel:
        """The model of this name, or without a name the only one. Raises ApiError (404)."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        if name is None or name not in self.models:
            names = ", ".join(f"'{each}'" for each in self.models)
            asked = (
                "no model is named" if name is None else f"model '{' '.join(name[:200].split())}' is not served here"
            )
            message = f"{asked}; this server has {names}"
            raise ApiError(404, message, code="model_not_found", param="model")
        return self.models[name]
