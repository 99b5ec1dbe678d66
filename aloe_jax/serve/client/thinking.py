"""Cutting a reasoning model's thoughts out of what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Spellings of the tags: DeepSeek, Qwen and most others, Seed, Magistral, Kimi.
_NAMES = "think|thinking|thought|reasoning|seed:think"
_OPEN = rf"(?:<(?:{_NAMES})>|\[THINK\]|◁think▷)"
_CLOSE = rf"(?:</(?:{_NAMES})>|\[/THINK\]|◁/think▷)"
_BLOCK = re.compile(rf"{_OPEN}.*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
_TO_CLOSE = re.compile(rf".*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_FROM_OPEN = re.compile(rf"{_OPEN}.*", re.DOTALL | re.IGNORECASE)


def without_thoughts(text: str) -> tuple[str, str | None]:
    """What a model says, and the thoughts that were cut out of it, None if there are none.

    Templates may write the opening tag into the prompt, so all before a closing tag alone is thought; so is all behind
    an opening tag without its end.
    """
    thoughts: list[str] = []

    def cut(found: re.Match[str]) -> str:
        thoughts.append(found.group())
        return ""

    for pattern in (_BLOCK, _TO_CLOSE, _FROM_OPEN):
        text = pattern.sub(cut, text)
    return (text.strip(), "".join(thoughts)) if thoughts else (text, None)


def said_from(tokens: Sequence[str]) -> int | None:
    """The index of the first token behind the thoughts; None if no end of them is found."""
    ends = [found.end() for found in re.finditer(_CLOSE, "".join(tokens), re.IGNORECASE)]
    if not ends:
        return None
    length = 0
    for index, token in enumerate(tokens):
        if length >= ends[-1]:
            return index
        length += len(token)
    return len(tokens)
