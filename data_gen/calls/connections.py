"""`Cast`: the model-backed roles of a stage with their call caches, model names, clients and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field

from aloe_jax.serve.client.interface import ChatClient
from data_gen.calls.call_cache import CallCache


@dataclass
class Cast:
    """The model-backed roles: the call cache of each (`recorded`), the name of its model (`models`), the clients, each
    of them once, and what their servers lack (`warnings`)."""

    recorded: dict[str, CallCache]
    models: dict[str, str]
    clients: list[ChatClient]
    warnings: list[str] = field(default_factory=list)
