"""What changed among the inputs of a stage since an earlier call, in words: hashes say nothing to a reader."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping

from etils import epath

Places = Mapping[str, Iterable[str]]  # paths behind an input, by the input's name


def input_changes(
    before: Mapping[str, str], now: Mapping[str, str], stages: Collection[str], places: Places
) -> list[str]:
    """A clause per input whose hash differs. `stages` are the inputs that are results of earlier stages; `places` are
    where the others are read from: a file is shown with its size and the time of its last change."""
    return [
        _clause(name, name in before, name in now, name in stages, places.get(name, ()))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _clause(name: str, had: bool, has: bool, is_stage: bool, paths: Iterable[str]) -> str:
    if not has:
        return f"input '{name}' is no longer read"
    if not had:
        return f"input '{name}' was not read before"
    if is_stage:
        return f"its stage '{name}' has another result since"
    found = ", ".join(map(_described, paths))
    return f"input '{name}' has other content since{found and f': {found}'}"


def _described(place: str) -> str:
    """The place, with size and time if it is a file."""
    path = epath.Path(place)
    if not path.is_file():
        return place
    found = path.stat()
    modified = datetime.datetime.fromtimestamp(found.mtime).strftime("%Y-%m-%d %H:%M") if found.mtime else "?"
    return f"{place} ({found.length:,} bytes, last changed {modified})"
