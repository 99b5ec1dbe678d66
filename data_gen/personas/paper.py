"""Pools from files: pool files of the paper's published code (paper, section 1), or the halves of our own personas."""

from __future__ import annotations

from collections.abc import Iterable

from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.formats import paper
from aloe_jax.formats.repair import Repairs, read_values
from aloe_jax.tree.schema import Persona, read_personas
from data_gen.personas.entry import Entry, Kind, check_kind


def read_pool(path: epath.PathLike, kind: Kind) -> list[Entry]:
    """The profiles or personalities of a file, in its order, each once.

    A file of plain strings is a pool file of the paper's code: it is read as tolerantly as `aloe convert` reads it, and
    the sentences are the items. Any other file is a `personas.jsonl`. Raises InputError for a missing or broken file,
    and for one that holds nothing of that kind.
    """
    check_kind(kind)
    repairs = Repairs()
    values = list(read_values(path, repairs))
    found: Iterable[Persona]
    if any(isinstance(value, str) for _, value in values):
        found = paper.personas(values, repairs, kind)
    else:
        found = read_personas(path)
    halves: dict[str, tuple[str, ...]] = {}
    for persona in found:
        name, items = (persona.profile, persona.facts) if kind == "profile" else (persona.personality, persona.traits)
        if items:
            halves.setdefault(name, tuple(item.text for item in items))
    if not halves:
        raise InputError(f"{path} holds no {kind}; expected a pool file of the paper's code or a personas.jsonl")
    return [Entry(name, items, origin="file") for name, items in halves.items()]
