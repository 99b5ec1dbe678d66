"""The interface of who replies in `aloe chat`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aloe_jax.tree.schema import Message


@dataclass(frozen=True)
class Piece:
    """A part of a reply as it comes. The last one has the reason for the end, "stop" or "length". `tokenizer` is the
    hash of the tokenizer of its ids."""

    text: str
    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    finish_reason: str | None = None
    tokenizer: str | None = None


class Speaker(Protocol):
    """A model that replies."""

    @property
    def name(self) -> str:
        """The model's."""
        ...

    def pieces(self, messages: Sequence[Message], extra_seed: int) -> Generator[Piece]:
        """A reply to the dialogue, as it comes; closing it ends it. Another `extra_seed` gives another reply.

        Raises InputError for a dialogue that cannot be answered, and AloeError for a reply that was lost.
        """
        ...

    def constrained(self, messages: Sequence[Message], schema: Mapping[str, object]) -> str:
        """The most probable answer to the dialogue that is JSON of the schema, as far as it came: one that is cut is a
        prefix of such a text. Raises as `pieces` does."""
        ...
