"""Guards: rules that turn down a generated message, under the names that the reject ledger records.

A new guard is a function of (text, scene) and an entry in `USER`, `REPLY` or both.

They find what open models do when a conversation game goes wrong (paper, section 5). A text that a rule turns down
wrongly is drawn again; a bad text that it lets through is trained on. So the rules prefer to turn down.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.tree.schema import Persona
from data_gen.roles import Dialogue, Revealed
from data_gen.text import content_stems, copied_share, word_grams, words

NEAR_COPY = 0.8  # share of a text's words that stand in another one in the same order
COPY_WORDS = 5  # shorter texts may repeat an earlier one
LOOP = 3  # times that three words in a row may occur
LEAK_WORDS = 6  # words in a row that a reply may not share with the hint
TOLD = 0.5  # share of a fact's topic words that gives the fact away
LENGTH_RATIO = 3.0  # of the longer of two compared replies to the shorter, in words

_SERVICE = re.compile(
    r"\bas an? (ai|assistant|language model)\b|\blanguage model\b|\b(how|what) (can|may) i (help|assist|do for) you\b"
    r"|\bi'?m here to (help|assist|listen)\b|\bhappy to (help|assist)\b|\bfeel free to (ask|share|reach)\b"
    r"|\blet me know (if|how) (you|i)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(^|\n)\s*\**(user|human|person|partner|friend|assistant|ai|bot|system|reply \d)\**\s*:", re.IGNORECASE
)
_STAGE = re.compile(r"\*[^*\n]{2,80}\*|\[[^\]\n]{2,80}\]|^\([^)\n]{2,80}\)")
_REFUSAL = re.compile(
    r"\bi (can'?t|cannot|won'?t|am not able to|'?m unable to|'?m not able to) (help|assist|do|provide|answer|discuss"
    r"|engage|fulfil)|\bas an ai\b|\bi('m| am) (just )?an ai\b|\bagainst my (guidelines|programming)\b",
    re.IGNORECASE,
)
_NOTES = re.compile(
    r"\b(my|the|these|those|your) (notes?|hints?|profile|persona|instructions?)\b|\b(based on|according to|given) what "
    r"(i('ve| have) (noticed|learned)|i know) about you\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scene:
    """What a text is checked against: the dialogue that it answers, and for a reply the persona, what has shown of it
    and the hint that the responder was given."""

    dialogue: Dialogue
    truncated: bool = False
    persona: Persona | None = None
    revealed: Sequence[Revealed] = ()
    hint: str | None = None


Guard = Callable[[str, Scene], bool]


def _empty(text: str, scene: Scene) -> bool:
    return not words(text)


def _truncated(text: str, scene: Scene) -> bool:
    return scene.truncated


def _role_flip(text: str, scene: Scene) -> bool:
    return _SERVICE.search(text.replace("’", "'")) is not None


def _speaks_for_other(text: str, scene: Scene) -> bool:
    return _NAMED.search(text) is not None


def _stage_directions(text: str, scene: Scene) -> bool:
    return _STAGE.search(text) is not None


def _near_copy(text: str, scene: Scene) -> bool:
    """A near copy of any earlier message, whoever wrote it."""
    return len(words(text)) >= COPY_WORDS and any(
        copied_share(text, message.content) >= NEAR_COPY for message in scene.dialogue
    )


def _loop(text: str, scene: Scene) -> bool:
    return max(Counter(word_grams(text, 3)).values(), default=0) >= LOOP


def _refusal(text: str, scene: Scene) -> bool:
    return _REFUSAL.search(text.replace("’", "'")) is not None


def _hint_leak(text: str, scene: Scene) -> bool:
    """Talks about the notes, or recites a passage of them that nobody has said."""
    if scene.hint is None:
        return False
    if _NOTES.search(text.replace("’", "'")):
        return True
    recited = set(word_grams(text, LEAK_WORDS)).intersection(word_grams(scene.hint, LEAK_WORDS))
    return bool(recited.difference(*(word_grams(message.content, LEAK_WORDS) for message in scene.dialogue)))


def _unrevealed(text: str, scene: Scene) -> bool:
    """Names a fact that the user has not shown: most of the fact's topic words, at least two, not counting those that
    have been said."""
    if scene.persona is None:
        return False
    shown = {each.id for each in scene.revealed}
    said = frozenset[str]().union(*(content_stems(message.content) for message in scene.dialogue))
    named = content_stems(text) - said
    for fact in scene.persona.facts:
        topic = content_stems(fact.text) - said
        hit = topic & named
        if fact.id not in shown and len(hit) >= 2 and len(hit) >= TOLD * len(topic):
            return True
    return False


_SHARED: Mapping[str, Guard] = {
    "empty": _empty,
    "truncated": _truncated,
    "speaks_for_other": _speaks_for_other,
    "stage_directions": _stage_directions,
    "near_copy": _near_copy,
    "loop": _loop,
}
USER: Mapping[str, Guard] = {**_SHARED, "role_flip": _role_flip}
REPLY: Mapping[str, Guard] = {**_SHARED, "refusal": _refusal, "hint_leak": _hint_leak, "unrevealed": _unrevealed}
PAIR = "length_ratio"
NAMES = (*dict.fromkeys([*USER, *REPLY]), PAIR)


def broken(table: Mapping[str, Guard], names: Sequence[str], text: str, scene: Scene) -> str | None:
    """The name of the first guard in the table, of those in `names`, that turns the text down; None if all let it
    through."""
    return next((name for name, guard in table.items() if name in names and guard(text, scene)), None)


def uneven(first: str, second: str) -> bool:
    """Whether one reply is so much longer than the other that a judge might go by length."""
    lengths = sorted((len(words(first)), len(words(second))))
    return lengths[1] > LENGTH_RATIO * max(1, lengths[0])
