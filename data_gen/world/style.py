"""One setting of a style axis, and how a user shows it.

A user never states a preference. A *habit* is visible in a whole message (its length, its case, its exclamation marks,
its emoji, its brackets): the user takes it up in the turn in which the setting is revealed and keeps it. Any other
setting is shown by a *phrase*: a remark from a small bank in which the user does what it likes, or tells of somebody
who did not. `Style.shows` is the rule that decides whether a message has shown the setting; it depends only on the
text, and knows the phrases of both simulators. The user answers a reply that misses a setting with one of its
`slights`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from aloe_jax.tree.schema import Item
from data_gen.text import expand_contractions, normal, sentence_count
from data_gen.world import remarks_b
from data_gen.world.checkers import BRACKETS, Checker


@dataclass(frozen=True)
class Style:
    """One setting of an axis; `id` is "axis.setting". Exactly one of `phrases` and `habit` is given. In phrases,
    "{topic}" stands for a fact that the user has mentioned before."""

    id: str
    text: str
    check: Checker
    slights: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    habit: Callable[[str], bool] | None = None

    @property
    def axis(self) -> str:
        """Settings of one axis exclude each other."""
        return self.id.split(".")[0]

    @functools.cached_property
    def _marks(self) -> tuple[str, ...]:
        phrases = (*self.phrases, *remarks_b.PHRASES.get(self.id, ()))
        return tuple(normal(expand_contractions(phrase.split("{")[0])) for phrase in phrases)

    def shows(self, message: str) -> bool:
        """Whether a user message shows this setting; case and punctuation of phrases do not matter."""
        if self.habit is not None:
            return self.habit(message)
        text = normal(expand_contractions(message))
        return any(mark in text for mark in self._marks)

    def item(self) -> Item:
        """The setting as an item of a persona record."""
        return Item(id=self.id, text=self.text)


def writes_briefly(message: str) -> bool:
    """At most three sentences; other users write four or five, `length.roomy` six or more."""
    return sentence_count(message) <= 3


def writes_at_length(message: str) -> bool:
    """Six sentences or more."""
    return sentence_count(message) >= 6


def writes_lower_case(message: str) -> bool:
    """Has letters, none of them upper-case."""
    return message.islower()


def writes_in_brackets(message: str) -> bool:
    """Has a remark in brackets."""
    return BRACKETS.search(message) is not None
