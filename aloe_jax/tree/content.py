"""The text of a message's content where that is a list of parts."""

from __future__ import annotations

from collections.abc import Sequence


def text_of_parts(parts: Sequence[object]) -> str:
    """The parts' texts with nothing between them, as chat templates of transformers write them one after the other.
    Raises ValueError for a part that is no text."""
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise ValueError('expected a string or a list of {"type": "text", "text": ...} parts')
        texts.append(text)
    return "".join(texts)
