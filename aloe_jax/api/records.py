"""Conversation trees from files and from plain dicts, and back to files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from aloe_jax.errors import InputError
from aloe_jax.formats.convert import read_conversations
from aloe_jax.tree.schema import Conversation, Message, Node, Preference, Record, first_fault, write_records

__all__ = ["Conversation", "Message", "Node", "Preference", "read_trees", "write_trees"]

Tree = Conversation | Mapping[str, Any]
Turn = Message | Mapping[str, Any]
R = TypeVar("R", bound=Record)


def read_trees(path: str | os.PathLike[str]) -> list[Conversation]:
    """The conversations of a file in any format that `aloe convert` reads: `trees.jsonl`, chats with `messages`,
    prompt/chosen/rejected records, as JSON lines, JSON, CSV or parquet.

    Raises InputError for a missing file and for the first broken record.
    """
    return list(read_conversations(path).trees)


def write_trees(path: str | os.PathLike[str], trees: Iterable[Tree]) -> int:
    """Write `trees`, records or dicts of their JSON, as a `trees.jsonl`, whole or not at all; returns their number.

    Raises InputError for a dict that is no conversation tree, before anything is written.
    """
    return write_records(path, as_trees(trees))


def as_trees(trees: Iterable[Tree]) -> list[Conversation]:
    """Records of conversation trees, from records and dicts. Raises InputError naming the first broken field."""
    return [as_record(Conversation, tree, f"tree {number}") for number, tree in enumerate(trees)]


def as_messages(messages: Sequence[Turn]) -> list[Message]:
    """Records of messages, from records and dicts. Raises InputError naming the first broken field."""
    if isinstance(messages, (str, Mapping)):
        raise InputError(f'messages: expected a list of {{"role": ..., "content": ...}}, found {str(messages)[:60]!r}')
    if not messages:
        raise InputError("messages: the list is empty, expected at least one message")
    return [as_record(Message, message, f"message {number}") for number, message in enumerate(messages)]


def as_record(kind: type[R], value: R | Mapping[str, Any], where: str) -> R:
    """A record, from itself or a dict. Raises InputError naming `where` and the first broken field."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected a {kind.__name__} or a dict, found {type(value).__name__}")
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        raise InputError(f"{where}: {first_fault(error)}") from None
