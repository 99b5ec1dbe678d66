"""A model that the server has, before and after its engine got a thread of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from aloe_jax.serve.worker import Engine, Worker
from aloe_jax.tree.template import ChatFormat


class Loaded(NamedTuple):
    """A model in memory, under the name that requests give."""

    name: str
    engine: Engine
    chat_format: ChatFormat


@dataclass(frozen=True)
class ServedModel:
    """A loaded model whose engine belongs to `worker`. `created` is in seconds since 1970."""

    name: str
    worker: Worker
    chat_format: ChatFormat
    created: int = field(default_factory=lambda: int(time.time()))
