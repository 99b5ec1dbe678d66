"""Cutting a reasoning model's thoughts out of what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Spellings of the tags: DeepSeek, Qwen and most others, Seed, MiniMax, LongCat; Magistral; Kimi; OpenThinker; Command
# A; MedGemma; Gemma 4; gpt-oss, whose channels before the final one are thoughts; Apriel and Granite in words.
_NAMES = "think|thinking|thought|reasoning|seed:think|mm:think|longcat_think"
_OPEN = (
    rf"(?:<(?:{_NAMES})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|thinking\|>|<unused94>"
    r"|<\|channel>thought|<\|channel\|>\s*(?:analysis|commentary)[^<]*<\|message\|>)"
)
_CLOSE = (
    rf"(?:</(?:{_NAMES})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<\|/thinking\|>|<unused95>"
    r"|<channel\|>|(?:<\|end\|>\s*)?(?:<\|start\|>assistant\s*)?<\|channel\|>\s*final[^<]*<\|message\|>"
    r"|\[BEGIN FINAL RESPONSE\])"
)
_IN_WORDS = re.compile(r"\A\s*Here is my thought process:.*?\bHere is my response:", re.DOTALL)
# What some models put around what they say after thinking.
_WRAPPED = re.compile(
    r"\s*(?:<(answer|response|output)>(.*)</\1>|<\|(?:begin_of_solution|START_RESPONSE)\|>(.*?)"
    r"(?:<\|(?:end_of_solution|END_RESPONSE)\|>)?|(.*)\[END FINAL RESPONSE\])\s*\Z",
    re.DOTALL,
)
_BLOCK = re.compile(rf"{_OPEN}.*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
_TO_CLOSE = re.compile(rf".*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_FROM_OPEN = re.compile(rf"{_OPEN}.*", re.DOTALL | re.IGNORECASE)
_OPENED = re.compile(rf"{_OPEN}\s*\Z", re.IGNORECASE)


def opens_thoughts(prompt: str) -> bool:
    """Whether a generation prompt ends with a tag that opens the model's thoughts."""
    return _OPENED.search(prompt) is not None


def without_thoughts(text: str, within: bool = False) -> tuple[str, str | None]:
    """What a model says, and the thoughts that were cut out of it, None if there are none.

    Templates may write the opening tag into the prompt, so all before a closing tag alone is thought; so is all behind
    an opening tag without its end. `within`: the prompt opened the thoughts and the answer was cut off, so that without
    any tag it is thought as a whole.
    """
    thoughts: list[str] = []

    def cut(found: re.Match[str]) -> str:
        thoughts.append(found.group())
        return ""

    for pattern in (_IN_WORDS, _BLOCK, _TO_CLOSE, _FROM_OPEN):
        text = pattern.sub(cut, text)
    if not thoughts:
        return ("", text) if within and text else (text, None)
    if (wrapped := _WRAPPED.fullmatch(text)) is not None:
        text = next(inner for inner in wrapped.groups()[1:] if inner is not None)
    return text.strip(), "".join(thoughts)


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
