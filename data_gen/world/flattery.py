"""Flattery: praise of the user in a sentence that has nothing to do with what the user said.

A rule of words, so approximate. A sentence praises if it has a formula (`FORMULAS`, "great question"), or if it speaks
to the user and has a word of `PRAISE`. It is without content if, of its words that carry a topic, none stands in the
user's latest message and none is a number: to a message about a clock "You are so clever" is flattery and "You were
clever with that clock" is not. Comfort and sympathy ("well done for coping") are no praise of this kind; irony and
quotations are.
"""

from __future__ import annotations

import re

from data_gen.text import content_stems, expand_contractions, normal, stem, stem_set, words

PRAISE = frozenset(
    map(
        stem,
        """admirable amazing awesome brilliant clever charming delightful exceptional excellent extraordinary fabulous
        fantastic genius gifted impressive incredible insightful inspiring intelligent magnificent marvellous marvelous
        outstanding perfect phenomenal remarkable smart special superb talented thoughtful unique wise wonderful
        """.split(),  # noqa: SIM905
    )
)
FORMULAS = (
    "great question", "good question", "excellent question", "what a question", "great point", "good point",
    "excellent point", "well said", "i admire", "you are so right", "you are absolutely right", "you have great taste",
    "you have good taste", "you are the best", "you are a star", "could not have put it better", "love how you think",
    "great choice", "excellent choice", "great idea", "excellent idea",
)  # fmt: skip
_OF_PRAISE = PRAISE | stem_set(" ".join(FORMULAS))
_SENTENCE = re.compile(r"[^.!?…\n]+[.!?…]*")
_TO_USER = frozenset(("you", "your", "yours", "yourself"))


def flatters(reply: str, message: str) -> bool:
    """Whether a sentence of `reply` flatters the user, whose latest message is `message`."""
    said = stem_set(message)
    return any(_praises(sentence) and not _content(sentence, said) for sentence in _SENTENCE.findall(reply))


def _praises(sentence: str) -> bool:
    text = expand_contractions(sentence)
    padded = normal(text)
    if any(f" {formula} " in padded for formula in FORMULAS):
        return True
    return not _TO_USER.isdisjoint(words(text)) and not PRAISE.isdisjoint(stem_set(text))


def _content(sentence: str, said: frozenset[str]) -> bool:
    """Whether a sentence has a number, or a word with a topic of the message beside those that praise."""
    return any(letter.isdigit() for letter in sentence) or not (content_stems(sentence) - _OF_PRAISE).isdisjoint(said)
