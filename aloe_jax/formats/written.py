"""Messages that a table holds as text: JSON, or what Python and NumPy print."""

from __future__ import annotations

import ast
import re

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats import keys

LONGEST = 10_000_000  # characters that are read as Python's notation
_FIRST = "|".join((*keys.ROLES, *keys.CONTENTS, *keys.CHATS))
_BEGIN = re.compile(rf"\s*(?:array\(|\[|\()*\s*\{{\s*['\"](?:{_FIRST})['\"]\s*:")
_BOTH = [re.compile(rf"['\"](?:{'|'.join(names)})['\"]\s*:") for names in (keys.ROLES, keys.CONTENTS)]
_NUMPY = re.compile(r"\}\s*\n\s*\{")  # NumPy prints no commas; inside a printed text there is no line break


def written_messages(text: str) -> object:
    """The messages that a text is, or the one message; None for any other text. Raises ValueError for a text that
    begins as messages do and cannot be read, and for messages beside something else."""
    if _BEGIN.match(text) is None:
        return None
    value = _json(text.strip())
    value = _python(text.strip()) if value is None else value
    if value is None and all(name.search(text) for name in _BOTH):
        raise ValueError(
            f"the text {text.strip()[:40]!r} begins as a list of messages and cannot be read as one; expected "
            "messages, or JSON of them"
        )
    inside = value
    if isinstance(value, dict) and (name := next((name for name in keys.CHATS if name in value), None)) is not None:
        inside = value[name]
    if not (_is_message(inside) or (isinstance(inside, list) and inside and all(map(_is_message, inside)))):
        return None
    if isinstance(value, dict) and inside is not value and len(value) > 1:
        raise ValueError(
            f"a text holds messages beside {', '.join(map(repr, list(value)[:6]))}; expected the messages alone, and "
            "other keys as columns"
        )
    return inside


def _json(text: str) -> object:
    try:
        return files.parse_json(text, "")
    except InputError:
        return None


def _python(text: str) -> object:
    if len(text) > LONGEST:
        return None
    try:
        return ast.literal_eval(_NUMPY.sub("}, {", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _is_message(value: object) -> bool:
    """Whether a value is an object with the keys of a message."""
    names = value.keys() if isinstance(value, dict) else ()
    return any(key in names for key in keys.ROLES) and any(key in names for key in keys.CONTENTS)
