"""Conversations that say nearly the same, found by MinHash over runs of words (Broder, "On the resemblance and
containment of documents", 1997).

Two conversations share the minimum of a random hash of their runs with a probability that is their resemblance: the
runs in both over the runs in either. Conversations that agree in a whole band of such minima are compared.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

WORDS = 3  # of a run; a shorter message is one run
ALIKE = 0.8  # resemblance from which two conversations are nearly the same
BANDS, ROWS = 20, 6  # finds a pair of resemblance 0.8 with probability 1 - (1 - 0.8^6)^20 = 0.998
_PRIME = np.uint64(2**31 - 1)
_FACTORS, _OFFSETS = np.random.default_rng(0).integers(1, 2**31 - 1, (2, BANDS * ROWS)).astype(np.uint64)


def runs(messages: Iterable[str]) -> set[int]:
    """Hashes of the runs of words of some messages, without regard to case and punctuation."""
    found = set()
    for message in messages:
        words = re.findall(r"\w+", message.lower())
        for start in range(max(1, len(words) - WORDS + 1) if words else 0):
            found.add(zlib.crc32(" ".join(words[start : start + WORDS]).encode("utf-8", "surrogatepass")))
    return found


@dataclass
class NearDuplicates:
    """Takes conversations one by one; `groups` are those that are nearly the same.

    A conversation joins a group if its resemblance to one member, estimated from 120 minima (standard error 0.04 at
    0.8), is at least ALIKE. It keeps 480 bytes per conversation.
    """

    _names: list[str] = field(default_factory=list)
    _minima: list[Int[np.ndarray, " H"]] = field(default_factory=list)

    def add(self, name: str, messages: Iterable[str]) -> None:
        """Add the messages of a conversation; one without words resembles no other."""
        if hashes := runs(messages):
            values = np.fromiter(hashes, np.uint64, len(hashes)) % _PRIME
            # Of each hash function, a random linear one modulo a prime, the minimum over the runs.
            minima = ((values[:, None] * _FACTORS + _OFFSETS) % _PRIME).min(axis=0)
            self._names.append(name)
            self._minima.append(minima.astype(np.uint32))

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The names of conversations that are nearly the same, the largest groups first, else in the order added."""
        leader = list(range(len(self._names)))

        def first(index: int) -> int:
            while leader[index] != index:
                index = leader[index]
            return index

        for band in range(BANDS):
            # Of equal bands, the conversations that resemble none before them; each later one is compared with these.
            known: dict[bytes, list[int]] = {}
            for index, minima in enumerate(self._minima):
                others = known.setdefault(minima[band * ROWS : (band + 1) * ROWS].tobytes(), [])
                alike = next((other for other in others if np.mean(self._minima[other] == minima) >= ALIKE), None)
                if alike is None:
                    others.append(index)
                else:
                    one, two = sorted((first(alike), first(index)))
                    leader[two] = one
        members: dict[int, list[str]] = {}
        for index, name in enumerate(self._names):
            members.setdefault(first(index), []).append(name)
        found = [tuple(names) for names in members.values() if len(names) > 1]
        return tuple(sorted(found, key=lambda names: -len(names)))
