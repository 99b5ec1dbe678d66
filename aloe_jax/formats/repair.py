"""Tolerant reading of the JSON lines that the paper's code writes: several values on a line, values inside strings,
stray quotes and escapes. Repairs and what could not be repaired are noted with their line numbers; paper, section 5,
mistake 9."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from etils import epath

from aloe_jax import files

_DECODER = json.JSONDecoder(strict=False)  # accepts raw line breaks and tabs inside strings


@dataclass
class Repairs:
    """The repairs by line, and the lines or parts of lines that were left out, each with its reason."""

    dropped: list[tuple[int, str]] = field(default_factory=list)
    _repaired: dict[str, set[int]] = field(default_factory=dict)

    @property
    def repaired(self) -> dict[str, list[int]]:
        """The numbers of the repaired lines, from 1, by the kind of defect."""
        return {kind: sorted(lines) for kind, lines in self._repaired.items()}

    def repair(self, kind: str, line: int) -> None:
        """Note a repair of this kind on a line; a line counts once."""
        self._repaired.setdefault(kind, set()).add(line)

    def drop(self, line: int, reason: str) -> None:
        """Note that a line or a part of it was left out."""
        self.dropped.append((line, reason))


def read_values(path: epath.PathLike, repairs: Repairs) -> Iterator[tuple[int, object]]:
    """The JSON values of a file with their line numbers. Raises InputError if it is missing or not UTF-8.

    A line may hold several values, with or without commas between them, and a string may itself hold JSON. The rest of
    a line behind an unreadable value is dropped.
    """
    for number, line in files.lines(path):
        text, count = line.strip(" \t,"), 0
        while text:
            try:
                value, end = _decoded(text)
            except ValueError as error:
                repairs.drop(number, f"broken JSON ({getattr(error, 'msg', error)})")
                break
            count += 1
            if count == 2:
                repairs.repair("several JSON values on one line", number)
            text = text[end:].lstrip(" \t,")
            yield from ((number, inner) for inner in _unwrapped(value, number, repairs))


def _decoded(text: str) -> tuple[object, int]:
    """The first JSON value of a text and where it ends. Raises ValueError with the reason for what cannot be read."""
    try:
        value, end = _DECODER.raw_decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    files.check_unicode(json.dumps(value, ensure_ascii=False))
    return value, end


def _unwrapped(value: object, line: int, repairs: Repairs) -> list[object]:
    """`value`, or the JSON values inside it if it is a string that holds such."""
    if not isinstance(value, str) or not value.strip().startswith(("{", "[", '"')):
        return [value]
    found: list[object] = []
    text = value.strip()
    while text:
        try:
            inner, end = _decoded(text)
        except ValueError:
            return [value]
        found += _unwrapped(inner, line, repairs)
        text = text[end:].lstrip()
    repairs.repair("JSON inside a string", line)
    return found


def clean_texts(value: str, line: int, repairs: Repairs) -> list[str]:
    """The plain texts in a string that may be a raw JSON line, quotes and escapes included."""
    texts = [inner if isinstance(inner, str) else json.dumps(inner) for inner in _unwrapped(value, line, repairs)]
    return [text.strip() for text in texts if text.strip()]
