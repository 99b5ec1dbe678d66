"""Tolerant reading of JSON lines as the reference wrote them: several values on a line, values inside strings, stray
quotes and escapes. What was mended and what could not be is kept with its line number; paper, section 5, mistake 9."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from etils import epath

from aloe_jax import files

_DECODER = json.JSONDecoder(strict=False)  # raw line breaks and tabs inside strings are let through


@dataclass
class Repairs:
    """What was mended on which lines, and the lines or parts of lines that were left out, each with its reason."""

    dropped: list[tuple[int, str]] = field(default_factory=list)
    _mended: dict[str, set[int]] = field(default_factory=dict)

    @property
    def mended(self) -> dict[str, list[int]]:
        """Line numbers, from 1, by the kind of defect."""
        return {kind: sorted(lines) for kind, lines in self._mended.items()}

    def mend(self, kind: str, line: int) -> None:
        """Note that something of this kind was mended on that line; a line counts once."""
        self._mended.setdefault(kind, set()).add(line)

    def drop(self, line: int, reason: str) -> None:
        """Note that something on that line was left out."""
        self.dropped.append((line, reason))


def read_values(path: epath.PathLike, repairs: Repairs) -> Iterator[tuple[int, Any]]:
    """JSON values of a file with their line numbers; raises InputError if it is missing or not UTF-8.

    A line may hold several values, with or without commas between them, and a string may itself hold JSON. The part of
    a line behind a value that cannot be read is dropped.
    """
    for number, line in files.lines(path):
        text, count = line.lstrip("\ufeff").strip(" \t,"), 0
        while text:
            try:
                value, end = _DECODER.raw_decode(text)
            except json.JSONDecodeError as error:
                repairs.drop(number, f"broken JSON ({error.msg})")
                break
            count += 1
            if count == 2:
                repairs.mend("several JSON values on one line", number)
            text = text[end:].lstrip(" \t,")
            yield from ((number, inner) for inner in _unwrapped(value, number, repairs))


def _unwrapped(value: Any, line: int, repairs: Repairs) -> list[Any]:
    """`value`, or what it holds if it is a string that holds JSON."""
    if not isinstance(value, str) or not value.strip().startswith(("{", "[", '"')):
        return [value]
    found, text = [], value.strip()
    while text:
        try:
            inner, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError:
            return [value]
        found += _unwrapped(inner, line, repairs)
        text = text[end:].lstrip()
    repairs.mend("JSON inside a string", line)
    return found


def clean_texts(value: str, line: int, repairs: Repairs) -> list[str]:
    """The plain texts in a string that may be a raw JSON line, quotes and escapes included."""
    texts = [inner if isinstance(inner, str) else json.dumps(inner) for inner in _unwrapped(value, line, repairs)]
    return [text.strip() for text in texts if text.strip()]
