"""Which of a few choices the text of an answer names.

A server that enforces no constraint lets the model put words around its choice, and numbers that are none: "8 out of
10", "-1", "4 to 5", a list of remarks. A number that is misread is a wrong score that shows nowhere, so a text that may
mean another choice, or none, names none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# What may stand before a choice: marks and one of the words for what was asked.
_WORD = r"(?:answer|choice|option|rating|reply|response|score|verdict)\b\W*"
_BEFORE = (
    r"[\W_]*(?:json\b[\W_]*)?"
    rf"(?:(?:the\s+)?(?:final\s+|overall\s+|better\s+|best\s+|my\s+)?{_WORD}(?:is\b\W*)?(?:{_WORD})?|overall\b\W*)?"
)
_SIGNED = re.compile(r"(?:^|[^\w>])[-−–<>≤≥.]$")  # "-1" and "<4", but not "- 1" and "<score>4"
_JOINED = re.compile(r"[\w%+]|[.,:/'’-]\w")  # "12", "4%", "4+", "1.5", "4/10"
_WHOLE = re.compile(r"\.0+(?!\d)")  # of "4.0"
# Between a choice and a number beside it, on the same line.
_BESIDE = (
    r"[^\w\n]*(?:(?:almost|and|even|maybe|minus|of|or|out|perhaps|plus|possibly|probably|reply|response|through|to|versus"
    r"|vs)\b[^\w\n]*)*"
)
# A word right behind a number makes it a number of something, but for these.
_BETTER = r"(?:wins|is\s+(?:(?:a|clearly|far|much|slightly|the)\s+)*(?:best|better|preferable|preferred|winner))"
_COUNTED = re.compile(
    rf"[\"'*_)\]]*[ \t]+(?!(?:as|because|since|{_BETTER})\b|(?:points?|stars?)\b[^\w\n]*(?:[.,;:(]|\n|$))\w",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(r"[\W_]*(?:no|wait|actually|rather|sorry)\b", re.IGNORECASE)
# A verdict further on: "Score: 4", "I choose 2", "Reply 2 is better".
_LATER = re.compile(
    r"\b(?:answer|choice|choose|pick|prefer|rating|score|verdict)\b[^\w\n]*"
    r"(?:(?:best|better|final|is|option|reply|response|the|would\s+be)\b[^\w\n]*)*(-?\d+(?:\.\d+)?)"
    rf"|\b(\d+)\s+{_BETTER}\b",
    re.IGNORECASE,
)
# Marks behind the choice that also number a list, and the list's next number.
_LISTED = re.compile(r"[*_\"]*[.):]")
_NEXT = re.compile(r"(?:^|[\n.;])[^\w\n]*(?:(?:option|reply|response)\s*)?\d+[*_\"]*[.):](?!\w)", re.IGNORECASE)
_ALSO = re.compile(r"[^\w\n]*\n\s*\d+\W*(?:\n|$)")  # another number on the next line


def named_choice(text: str, choices: Sequence[str], cut: bool = False) -> tuple[int, str] | None:
    """Where an answer names its choice, and which; None if it names none, or another one beside it.

    The choice stands alone, as a JSON string, or at the head of an answer: "1.", "**1**", "Reply 1", "1\\n\\nbecause".
    Of three or more numbers it may stand on their scale: "4/5", "4 out of 5". "1.5", "1 or 2" and a choice somewhere in
    a sentence are none. `cut`: the answer was cut off, so that "1. The style" may begin a list.
    """
    if text.strip() in choices:
        return len(text) - len(text.lstrip()), text.strip()
    names = "|".join(map(re.escape, sorted(choices, key=len, reverse=True)))
    found = re.match(rf"{_BEFORE}({names})", text, re.IGNORECASE)
    if found is None:
        return None
    rest = text[found.end() :]
    if re.match(rf"{_BESIDE}(?:{names})(?!\w)", rest, re.IGNORECASE) and not _scale(rest, choices):
        return None
    numbers = all(choice.isdecimal() for choice in choices)
    if numbers and not _is_grade(text[: found.start(1)], found[1], rest, choices, cut):
        return None
    if not numbers and _JOINED.match(rest):
        return None
    return found.start(1), next(each for each in choices if each.lower() == found[1].lower())


def _scale(rest: str, choices: Sequence[str]) -> re.Match[str] | None:
    """What stands behind a number on the scale of the choices: "/5", "out of 5"; None without it."""
    if len(choices) < 3:
        return None
    return re.match(rf"[^\w\n]*(?:/|\b(?:out\s+)?of\b)\s*{choices[-1]}(?![\w/]|[.,:-]\w)", rest, re.IGNORECASE)


def _is_grade(before: str, number: str, rest: str, choices: Sequence[str], cut: bool) -> bool:
    """Whether a number among the choices is meant as the answer, by what stands before and behind it."""
    if scale := _scale(rest, choices):
        rest = rest[scale.end() :]
    elif whole := _WHOLE.match(rest):
        rest = rest[whole.end() :]
    if _SIGNED.search(before) or _JOINED.match(rest) or re.match(rf"{_BESIDE}\d", rest, re.IGNORECASE):
        return False
    if _COUNTED.match(rest) or _TAKEN_BACK.match(rest) or _ALSO.match(rest):
        return False
    if (listed := _LISTED.match(rest)) and (_NEXT.search(rest) or (cut and rest[listed.end() :].strip())):
        return False
    later = (re.sub(r"\.0+$", "", each[1] or each[2]) for each in _LATER.finditer(rest))
    return all(each == number for each in later)
