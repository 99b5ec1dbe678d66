"""An entry of the persona pool, and the hand-written entries that a pool starts from."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Record, parse

Kind = Literal["profile", "personality"]
Origin = Literal["seed", "generated", "file"]
SEED_FILES: Mapping[Kind, str] = {"profile": "profiles.jsonl", "personality": "personalities.jsonl"}


@dataclass(frozen=True)
class Entry:
    """A profile (its items are facts) or a personality (its items are traits). `id` starts with the kind and is
    determined by the items, unless the entry comes from a file that names it."""

    id: str
    items: tuple[str, ...]
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    origin: Origin = "generated"

    @property
    def text(self) -> str:
        """The items as one paragraph, which is compared and embedded."""
        return " ".join(self.items)


class _Seed(Record):
    """A line of a seed file."""

    attributes: dict[str, str]
    items: tuple[str, ...]


def make_entry(kind: Kind, items: Sequence[str], attributes: Mapping[str, str], origin: Origin) -> Entry:
    """An entry whose id is derived from its items."""
    check_kind(kind)
    return Entry(f"{kind}-{files.sha256(*items)[:10]}", tuple(items), dict(attributes), origin)


@functools.cache
def read_seeds(kind: Kind) -> tuple[Entry, ...]:
    """The hand-written profiles or personalities, in file order. InputError for another kind."""
    check_kind(kind)
    name = SEED_FILES[kind]
    text = resources.files("data_gen.personas").joinpath("seeds", name).read_text(encoding="utf-8")
    seeds = [parse(_Seed, line, f"{name} line {row}") for row, line in enumerate(text.splitlines(), start=1)]
    return tuple(make_entry(kind, seed.items, seed.attributes, "seed") for seed in seeds)


def check_kind(kind: str) -> None:
    """InputError unless `kind` is one of the two pools."""
    if kind not in SEED_FILES:
        raise InputError(f"pool kind is '{kind}'; expected one of {', '.join(SEED_FILES)}")
