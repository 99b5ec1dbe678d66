"""The text of tokens as they come, equal to that of all of them together.

A token may be a piece of a character, and what a decoder makes of a run of single bytes depends on the whole run. So
text is given only where nothing that follows can change it.
"""

from __future__ import annotations

import re

from aloe_jax.tree.tokenizer import Tokenizer

_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")  # a token for one byte, beside a vocabulary of characters
_INCOMPLETE = "\ufffd"


class Detokenizer:
    """Text of one reply: the parts that `take` and `finish` return are together `tokenizer.decode` of all tokens.

    It decodes the tokens behind the last border but one, since a decoder treats the first token differently from others
    (SentencePiece's strips a space): those before the last border are there to be the first.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = tokenizer.special_tokens
        self._window: list[int] = []
        self._border = 0  # tokens of the window whose text was given
        self._given = ""  # their text
        self._in_bytes = False

    def take(self, token: int) -> str:
        """The text that is complete with one more token; special tokens have none."""
        entry = None if token in self._special else self._tokenizer.entry(token)
        if entry is None:
            return ""
        self._window.append(token)
        self._in_bytes = bool(_BYTE.fullmatch(entry))
        text = self._tokenizer.decode(self._window)
        return "" if self._in_bytes or text.endswith(_INCOMPLETE) else self._up_to(text)

    def finish(self) -> str:
        """The rest, with U+FFFD in place of bytes that are no character."""
        return self._up_to(self._tokenizer.decode(self._window))

    def _up_to(self, text: str) -> str:
        """What is new of the window's text, which is complete."""
        new = text[len(self._given) :]
        if new:
            del self._window[: self._border]
            text = self._tokenizer.decode(self._window)
        self._border, self._given = len(self._window), text
        return new
