"""New names for the words of a text, so that what it is about cannot be known by heart."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from data_gen.text import WORD

_ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh sk st t th tr v w".split()  # noqa: SIM905
_VOWELS = "a e i o u ai ea ee oa oo ou".split()  # noqa: SIM905
_CODAS = ["", "", "b", "ck", "d", "g", "l", "ll", "m", "n", "nd", "ng", "p", "r", "rt", "s", "st", "t", "x"]


def made_up(draws: random.Random) -> str:
    """A word of one to three syllables that most likely nobody knows."""
    syllables = draws.choice((1, 2, 2, 2, 3))
    return "".join(draws.choice(_ONSETS) + draws.choice(_VOWELS) + draws.choice(_CODAS) for _ in range(syllables))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """`text` with words replaced as `names` (lower-case) says; a capital letter at the start of a word stays one."""

    def new(match: re.Match[str]) -> str:
        word = match.group()
        name = names.get(word.casefold(), word)
        return name.capitalize() if word[0].isupper() and name is not word else name

    return WORD.sub(new, text)
