"""The texts that chat formats write around messages. Where one stands in a message itself, it was rendered already, or
a server did not stop at the end of the turn."""

from __future__ import annotations

import re

from aloe_jax.tree.tokenizer import TURN_ENDERS

# The ends of a turn or of a text, in open models' formats. "</s>" is also the end of struck-out HTML.
_STRUCK = "</s>"
ENDS = (
    *TURN_ENDERS,
    *(_STRUCK, "<eos>", "<|endoftext|>", "<|return|>", "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", "<turn|>"),
    *("<|endofassistant|>", "<|eom_id|>", "<|end_of_text|>", "<|end▁of▁sentence|>", "<｜end▁of▁sentence｜>"),
)
_ANY_END = re.compile("|".join(map(re.escape, sorted(ENDS, key=len, reverse=True))))
_ROLE = re.compile(r"\s*(?:user|assistant|system|model|human)\s*(?:\n|:|<)", re.IGNORECASE)
# What a rendered turn, or a rendered conversation, begins with.
_OPENINGS = re.compile(
    r"\s*(<\|im_start\|>|<\|start_header_id\|>|<\|begin_of_text\|>|<start_of_turn>|<bos>|<\|(?:user|system|assistant)\|>"
    r"|<\|startoftext\|>|<\|START_OF_TURN_TOKEN\|>|<\|turn>|<\|start\|>(?:system|user|developer|assistant)"
    r"|<[|｜](?:begin▁of▁sentence|User|Assistant)[|｜]>|(?:<s>\s*)?\[INST\]|<s>\s*(?=<\|))"
)
_HEADER = re.compile(
    r"\s*(?:<\|im_start\|>assistant|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model|<\|assistant\|>"
    r"|<\|start\|>assistant<\|message\|>|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>|assistant(?=\n\n))\s*"
)
# Formats of words alone: the header of a user's turn and that of the reply.
_WORDS = (
    ("### Instruction:", "### Response:"),
    ("### Human:", "### Assistant:"),
    ("### User:", "### Assistant:"),
    ("USER:", "ASSISTANT:"),
    ("Human:", "Assistant:"),
    ("User:", "Assistant:"),
    ("Human:", "AI:"),
)
_UNMISTAKABLE = 4  # of them; the others also begin a dialogue that somebody asked for


def opening(text: str) -> str | None:
    """What a text begins with if it is a rendered turn or conversation; None if it is neither."""
    if (found := _OPENINGS.match(text)) is not None:
        return found[1].strip()
    for asked, answered in _WORDS[:_UNMISTAKABLE]:
        if text.lstrip().startswith(asked) and answered in text:
            return asked
    return None


def reply_header(text: str) -> str | None:
    """The header of the next reply with which a text ends if it is a rendered prompt; None if it is not."""
    for asked, answered in _WORDS:
        if text.rstrip().endswith(answered) and asked in text:
            return answered
    return None


def without_header(text: str) -> str:
    """A reply without the header of its own turn."""
    found = _HEADER.match(text)
    return text if found is None else text[found.end() :]


def without_end(text: str) -> str:
    """A text without the ends of turn behind it, and without the white space before those."""
    while (end := next((end for end in ENDS if text.rstrip().endswith(end)), None)) is not None:
        text = text.rstrip().removesuffix(end)
        if end == _STRUCK and text.count("<s>") > text.count(_STRUCK):
            return text + end
        text = text.rstrip()
    return text


def first_end(text: str) -> int | None:
    """Where a text ends that has nothing behind an end of turn, or ran on into another turn; None for a text that only
    mentions ends of turns."""
    for found in _ANY_END.finditer(text):
        rest = text[found.end() :]
        if found.group() == _STRUCK and "<s>" in text[: found.start()]:
            continue
        if not rest.strip() or opening(rest) is not None or _ANY_END.match(rest.lstrip()) or _ROLE.match(rest):
            return found.start()
    return None
