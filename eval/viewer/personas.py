"""The personas of a run as the viewer shows them: each profile and each personality once, with what it is paired
with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from data_gen.run_files import HELD_OUT, PERSONAS
from eval.viewer.tail import TailedFile, parse

POOLS = {"for training": PERSONAS, "held out for the benchmark": HELD_OUT}
# Kind of a pool's entries: the key of its name in a persona, that of its items, that of what it is paired with.
KINDS = (("profiles", "profile", "facts", "personality"), ("personalities", "personality", "traits", "profile"))


class Entry(TypedDict):
    """A profile or a personality: its facts or traits, and the names of what it is paired with."""

    name: str
    items: list[str]
    partners: list[str]


class Pool(TypedDict):
    """The personas of one file; `broken` counts lines that hold none."""

    name: str
    personas: int
    broken: int
    profiles: list[Entry]
    personalities: list[Entry]


def personas_file(root: Path) -> Path:
    """The file of the training personas of a run directory."""
    return root / "personas" / PERSONAS


def has_personas(root: Path) -> bool:
    """Whether a run directory has a training persona."""
    return any(_persona(line.data) is not None for line in TailedFile(personas_file(root)).lines())


def pools(root: Path) -> list[Pool]:
    """The personas of a run directory by file, in file order; without those that do not exist yet."""
    folder = root / "personas"
    return [_pool(name, folder / file) for name, file in POOLS.items() if (folder / file).is_file()]


def _pool(name: str, path: Path) -> Pool:
    entries: dict[str, dict[str, Entry]] = {kind: {} for kind, *_ in KINDS}
    count = broken = 0
    for line in TailedFile(path).lines():
        persona = _persona(line.data)
        if persona is None:
            broken += 1
            continue
        count += 1
        for kind, own, items, partner in KINDS:
            key = str(persona.get(own) or persona["id"])
            entry = entries[kind].setdefault(key, Entry(name=key, items=_texts(persona.get(items)), partners=[]))
            if persona.get(partner):
                entry["partners"].append(str(persona[partner]))
    profiles, personalities = (list(entries[kind].values()) for kind, *_ in KINDS)
    return Pool(name=name, personas=count, broken=broken, profiles=profiles, personalities=personalities)


def _persona(line: bytes) -> Mapping[str, object] | None:
    """The persona on a line; None if it holds none."""
    try:
        value = parse(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("id"), str) else None


def _texts(items: object) -> list[str]:
    return (
        [str(item["text"]) for item in items if isinstance(item, dict) and "text" in item]
        if isinstance(items, list)
        else []
    )
