"""The text that each token of a sequence stands for, and a form of it in which every character can be seen."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from aloe_jax.tree.tokenizer import Tokenizer

UNFINISHED = "▯"  # a token that ends inside a character: a later one shows the character
_CONTEXT = 8  # tokens before a sequence that decide whether its first one begins with a space
_CHARACTER = 4  # bytes of a UTF-8 character at most, so tokens that share one
_REPLACEMENT = "\ufffd"  # what an unfinished character decodes to
_NAMED = {"\n": "⏎\n", "\t": "⇥", "\r": "␍"}
_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}  # categories of control characters and unusual spaces


def token_texts(tokenizer: Tokenizer, ids: Sequence[int], before: Sequence[int] = ()) -> list[str]:
    """What each of `ids` adds to the text when it is decoded behind `before`; together, the text of `ids`.

    A token that ends inside a character adds nothing, the token that completes the character adds all of it.
    """
    context = list(before[-_CONTEXT:])
    known = [*context, *ids]
    texts: list[str] = []
    start, read = 0, len(context)
    for index in range(read, len(known)):
        old = tokenizer.decode(known[start:read], skip_special=False)
        new = tokenizer.decode(known[start : index + 1], skip_special=False)
        unfinished = new.endswith(_REPLACEMENT) and index + 1 - read < _CHARACTER and index + 1 < len(known)
        texts.append("" if unfinished else new[len(old) :])
        if not unfinished:
            start, read = read, index + 1
    return texts


def visible(text: str) -> str:
    """`text` with signs for line breaks, which stay, and tabs, and escapes for what a display hides or obeys, such as
    characters that move the cursor or turn the direction of writing."""
    return "".join(_NAMED.get(character) or _seen(character) for character in text)


def _seen(character: str) -> str:
    if character == " " or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode() if ord(character) > 0xFF else f"\\x{ord(character):02x}"
