"""What every endpoint does first: read the body, find the model."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request as HttpRequest

from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.server.http_server import read_body


class Access:
    """The way to `models`. A body has at most `max_body_bytes`. `wants_key` is whether requests carry a key, which was
    checked before they got here (`key.py`)."""

    def __init__(self, models: Sequence[ServedModel], max_body_bytes: int, wants_key: bool = False) -> None:
        self.models = {model.name: model for model in models}
        self.wants_key = wants_key
        self._max_body_bytes = max_body_bytes

    async def body(self, http: HttpRequest) -> bytes:
        """The body of a request. Raises ApiError (413, or 415 for one that is compressed), and ClientDisconnect."""
        if (coding := http.headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
            raise ApiError(
                415,
                f"the body has the Content-Encoding '{coding[:80]}'; send it uncompressed",
                headers={"Accept-Encoding": "identity"},
            )
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
