"""What a server allows its clients."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from aloe_jax.errors import InputError
from aloe_jax.serve.catalogue import Catalogue
from aloe_jax.serve.server.connections import ConnectionLimits
from aloe_jax.settings import setting

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:\d{1,5})?")


@dataclass(frozen=True)
class ServerSettings:
    """Who may send requests, and how many. Raises InputError for a number below its bound, an origin that no browser
    sends and a name that no client does."""

    queue: int = setting(256, "requests that may wait; further ones are answered with 429", minimum=0)
    drain_seconds: float = setting(30.0, "that running requests may still take when the server stops", minimum=0)
    max_body_bytes: int = setting(8 * 2**20, "bytes of a request's body", minimum=1)
    origins: tuple[str, ...] = setting((), "origins of web pages elsewhere that may call the server")
    hosts: tuple[str, ...] = setting((), "names, besides its own, under which it is called")
    catalogue: Catalogue | None = setting(None, "what models may name as learned about a user; None: free sentences")
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)

    def __post_init__(self) -> None:
        for name, value in (("queue", self.queue), ("drain", self.drain_seconds)):
            if not 0 <= value < math.inf:
                raise InputError(f"--{name}={value} must be a number that is not negative")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise InputError(
                    f"--allow-origin: '{origin}' is not the origin of a web page; expected scheme, name in small "
                    "letters and perhaps port, as in https://app.example or http://localhost:3000"
                )
        for host in self.hosts:
            if not host or "/" in host or host != host.lower():
                raise InputError(f"--allow-host: '{host}' must be a name in small letters, as in models.example")
