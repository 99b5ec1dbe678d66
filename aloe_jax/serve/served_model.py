"""A model that the server has, before and after its engine got a thread of its own."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aloe_jax.serve.worker import Engine, Worker
from aloe_jax.tree.template import ChatFormat

KEPT_FORMATS = 16


class Loaded(NamedTuple):
    """A model in memory, under the name that requests give."""

    name: str
    engine: Engine
    chat_format: ChatFormat


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded model whose engine belongs to `worker`. `created` is in seconds since 1970."""

    name: str
    worker: Worker
    chat_format: ChatFormat
    created: int = field(default_factory=lambda: int(time.time()))

    def with_variables(self, variables: Mapping[str, object]) -> ChatFormat:
        """The chat format with further variables of its template. The last ones are kept: a template is compiled and
        tried out for each."""
        return self._formats(json.dumps(variables, sort_keys=True)) if variables else self.chat_format

    @functools.cached_property
    def _formats(self) -> Callable[[str], ChatFormat]:
        return functools.lru_cache(KEPT_FORMATS)(lambda text: self.chat_format.with_variables(json.loads(text)))

    def token_text(self, token: int) -> str:
        """The text of one token, special ones included; with U+FFFD where it is a piece of a character."""
        return self.chat_format.tokenizer.decode([token], skip_special=False)
