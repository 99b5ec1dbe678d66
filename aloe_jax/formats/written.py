"""Messages that a table holds as text: JSON, or what Python and NumPy print."""

from __future__ import annotations

import ast
import re

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats import keys

LONGEST = 10_000_000  # characters that are read as Python's notation
_BEGIN = re.compile(rf"\s*(?:array\(|\[|\()*\s*\{{\s*['\"](?:{'|'.join(keys.ROLES + keys.CONTENTS)})['\"]\s*:")
_NUMPY = re.compile(r"\}\s*\n\s*\{")  # NumPy prints no commas; inside a printed text there is no line break


def written_messages(text: str) -> list[object] | dict[str, object] | None:
    """The messages that a text is, or the one message; None for any other text. Raises ValueError for a text that
    begins as messages do and is none."""
    if _BEGIN.match(text) is None:
        return None
    for read in (_json, _python):
        found = read(text.strip())
        if _is_message(found) or (isinstance(found, list) and found and all(map(_is_message, found))):
            return found  # type: ignore[return-value]
    raise ValueError(
        f"the text {text.strip()[:40]!r} begins as a list of messages and cannot be read as one; expected messages, or "
        "JSON of them"
    )


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
