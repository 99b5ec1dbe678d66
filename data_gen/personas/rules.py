"""Rules for the form of a proposed profile or personality."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from data_gen.personas.entry import Kind, check_kind
from data_gen.text import word_grams, words

ITEMS = (8, 10)  # paper: a profile has 8-10 facts, a personality 8-10 traits
ITEM_WORDS = (3, 40)
# Minimum share of distinct word trigrams. Loops of small models ("They like to ...", ten times) lie far below it, the
# least varied hand-written seed at 0.98.
DIFFERENT_TRIGRAMS = 0.75

_SENTENCE = re.compile(r"[\"'“‘(]?[^\W_a-zß-öø-ÿ].*[.!?…][\"'”’)]?", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|‘[^’]*’")
# Without "mine" and "us", which may also be a coal mine and a country.
_FIRST_PERSON = re.compile(r"\b(?:I|I['’](?:m|d|ve|ll)|[Mm]y|[Mm]e|[Mm]yself|[Ww]e|[Oo]ur|[Oo]urselves)\b")
_TASK = re.compile(
    r"\bA\.?I\b|\b(?:GPT|LLM|JSON)\b|(?i:\b(?:language models?|chat ?bots?|(?:ai|virtual|digital) assistants?|personas?"
    r"|role-?play\w*|system prompts?|the (?:user|assistant)|this (?:user|profile|personality|character))\b)"
)
_PLACEHOLDER = re.compile(
    r"\[[^\]]*\]|<[^>]*>|\{[^}]*\}|__+|\b(?:TODO|TBD|XXX+|N/A)\b|(?i:\blorem ipsum\b|\binsert \w+ here\b)|\.\.\.$|…$"
)


def broken_rule(kind: Kind, items: Sequence[str]) -> str | None:
    """The name of the first rule that the items break; None if they keep all.

    "count": 8 to 10 items; "length": 3 to 40 words per item; "sentence": an item begins with a capital or a digit and
    ends like a sentence; "first person": the first person occurs in quotations only; "task": no model, assistant or
    persona is named; "placeholder": nothing is left to be filled in; "repetition": the items differ.
    """
    check_kind(kind)
    if not ITEMS[0] <= len(items) <= ITEMS[1]:
        return "count"
    for name, broken in _ITEM_RULES:
        if any(broken(item) for item in items):
            return name
    return "repetition" if _repeats(items) else None


def _repeats(items: Sequence[str]) -> bool:
    if len({words(item) for item in items}) < len(items):
        return True
    trigrams = [gram for item in items for gram in word_grams(item, 3)]
    return len(set(trigrams)) < DIFFERENT_TRIGRAMS * len(trigrams)


_ITEM_RULES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("length", lambda item: not ITEM_WORDS[0] <= len(words(item)) <= ITEM_WORDS[1]),
    ("placeholder", lambda item: bool(_PLACEHOLDER.search(item))),
    ("sentence", lambda item: not _SENTENCE.fullmatch(item)),
    ("first person", lambda item: bool(_FIRST_PERSON.search(_QUOTED.sub("", item)))),
    ("task", lambda item: bool(_TASK.search(item))),
)
