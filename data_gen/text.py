"""Words, stems and sentences of a text: small functions that checkers, guards and the persona pool share.

All of them ignore case, whitespace and the difference between straight and curly apostrophes; none looks at markup.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Set
from difflib import SequenceMatcher
from itertools import pairwise

# Many checkers read every message of a dialogue again at every turn: cache the texts of some dialogues.
_CACHED = 16_384
COPIED_GRAM = 5  # words in a row that count as copied

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?:\s|$)|\n+")
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")

_EXPANSIONS = tuple(
    (re.compile(pattern, re.IGNORECASE), full)
    for pattern, full in (
        (r"\bcan't\b", "cannot"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"'m\b", " am"),
        (r"'re\b", " are"),
        (r"'ve\b", " have"),
        (r"'ll\b", " will"),
        (r"'d (?=hoped\b|better\b)", " had "),
        (r"'d\b", " would"),
        (r"\b(let)'s\b", r"\1 us"),
        (r"\b(it|that|there|here|he|she|what|who|how|where)'s (?=been\b|got\b|gone\b)", r"\1 has "),
        (r"\b(it|that|there|here|he|she|what|who|how|where)'s\b", r"\1 is"),
    )
)

# Words that carry grammar rather than a topic. They make up one third to two thirds of a reply in sentences, and hardly
# any of a list of keywords.
FUNCTION_WORDS = frozenset(
    """a about above after again all also although always am an and another any anyone anything are around as at away
    back be because been before behind being both but by can can't could day did didn't do does doesn't doing don't
    done down each else even ever every everyone everything few for from get gets getting go goes going gone good got
    great had has have haven't having he he's her here hers him his how however i i'd i'll i'm i've if in into is isn't
    it it's its itself just keep kind know least less let let's like little look lot lots made make makes many may
    maybe me mean might mine more most much must my myself need never new next no nobody none nor not nothing now of
    off often oh ok okay on once one only onto or other others our ours out over own per perhaps quite rather really
    right said same say says see seem seems shall she she's should since so some someone something somewhere sometimes
    soon sort sound sounds still such sure take tell than that that's the their theirs them themselves then there
    there's these they they're thing things think this those though through time to today together too took toward
    two under until up upon us very want was wasn't way we we're we've well went were weren't what what's whatever
    when where whether which while who whole whose why will with without won't would yes yet you you'd you'll you're
    you've your yours yourself""".split()  # noqa: SIM905
)


@functools.lru_cache(maxsize=_CACHED)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words in order; an inner apostrophe belongs to its word ("don't")."""
    return tuple(WORD.findall(text.casefold().replace("’", "'")))


def word_grams(text: str, size: int) -> list[tuple[str, ...]]:
    """All runs of `size` words of `text`, in order; empty if it is shorter."""
    found = words(text)
    return [found[start : start + size] for start in range(len(found) - size + 1)]


def gram_set(texts: Iterable[str], size: int = COPIED_GRAM) -> frozenset[tuple[str, ...]]:
    """All runs of `size` words of `texts`: what `copied_grams` compares with."""
    return frozenset(gram for text in texts for gram in word_grams(text, size))


def copied_grams(text: str, known: Set[tuple[str, ...]], size: int = COPIED_GRAM) -> float | None:
    """Share in [0, 1] of the runs of `size` words of `text` that stand in `known`, made by `gram_set` with the same
    size; None for a shorter text. It tells how much of a reply was copied from texts such as those trained on."""
    grams = word_grams(text, size)
    return sum(gram in known for gram in grams) / len(grams) if grams else None


@functools.lru_cache(maxsize=_CACHED)
def stem(word: str) -> str:
    """`word` without the most common English endings, so that "nurse", "nurses" and "nursing" agree.

    A simple suffix stripper: it has to treat both sides of a comparison alike, not to be right about English.
    """
    word = word.casefold().removesuffix("'s").removesuffix("'")
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) >= len(ending) + 3:
            word = word.removesuffix(ending)
            if word[-1] == word[-2] and word[-1] not in "ls":  # "swimming" -> "swim"
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 3 else word


@functools.lru_cache(maxsize=_CACHED)
def stems(text: str) -> tuple[str, ...]:
    """Stem of every word, in order."""
    return tuple(stem(word) for word in words(text))


@functools.lru_cache(maxsize=_CACHED)
def stem_set(text: str) -> frozenset[str]:
    """The different stems of a text."""
    return frozenset(stems(text))


@functools.lru_cache(maxsize=_CACHED)
def content_stems(text: str) -> frozenset[str]:
    """Stems of the words that carry a topic."""
    return frozenset(map(stem, content_words(text)))


def content_words(text: str) -> list[str]:
    """The words that carry a topic, in order: no function words, at least three letters."""
    return [word for word in words(text) if word not in FUNCTION_WORDS and len(word) >= 3]


@functools.lru_cache(maxsize=_CACHED)
def normal(text: str) -> str:
    """The words joined by single spaces, with a space at both ends, so that `normal(phrase) in normal(text)` finds
    whole words whatever the case and punctuation."""
    return f" {' '.join(words(text))} "


@functools.lru_cache(maxsize=_CACHED)
def sentence_count(text: str) -> int:
    """Number of sentences; a last piece without its full stop counts as one."""
    return sum(1 for piece in _SENTENCE_END.split(text) if words(piece))


def has_emoji(text: str) -> bool:
    """Whether a pictograph of the usual Unicode blocks occurs."""
    return _EMOJI.search(text) is not None


@functools.lru_cache(maxsize=_CACHED)
def expand_contractions(text: str) -> str:
    """The text without contractions ("don't" -> "do not"); possessives stay. Straight apostrophes in the result."""
    text = text.replace("’", "'")
    for pattern, full in _EXPANSIONS:
        text = pattern.sub(full, text)
    return text


@functools.lru_cache(maxsize=_CACHED)
def _stem_pairs(text: str) -> frozenset[tuple[str, str]]:
    return frozenset(pairwise(stems(text)))


@functools.lru_cache(maxsize=_CACHED)
def copied_share(text: str, source: str, harmless: float = 0.0) -> float:
    """Share in [0, 1] of the words of `text` that occur in `source` in the same order, two or more in a row (stems are
    compared). Small edits leave it high; an answer on the same topic scores low, as it shares single words only. Where
    the words of shared pairs are no more than the share `harmless`, it is 0 without a closer look."""
    left, right = stems(text), stems(source)
    shared = [row for row, pair in enumerate(pairwise(left)) if pair in _stem_pairs(source)]
    covered = len({place for row in shared for place in (row, row + 1)})
    if not shared or covered <= harmless * len(left):
        return 0.0
    matched = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return sum(block.size for block in matched if block.size >= 2) / len(left)


def falling(value: float, start: float, end: float) -> float:
    """1 up to `start`, falling linearly to 0 at `end`: a soft threshold."""
    return min(1.0, max(0.0, (end - value) / (end - start)))
