"""The items that a belief about a user may name, by id, with their texts."""

from __future__ import annotations

from collections.abc import Mapping

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.probe import MAX_ITEM

Catalogue = Mapping[str, str]  # by id the item as a sentence; "" where it has none


def read_catalogue(path: epath.PathLike) -> Catalogue:
    """The items of a file: on each line an id, then its text behind space, if it has one. Raises InputError, with the
    line, for a missing or empty file, a long id, and one that comes twice."""
    found: dict[str, str] = {}
    for number, line in files.lines(path):
        name, _, text = line.partition("\t") if "\t" in line else line.partition(" ")
        where = f"{path} line {number}: the id '{name.strip()[:MAX_ITEM]}'"
        if len(name.strip()) > MAX_ITEM:
            raise InputError(f"{where} goes on; expected at most {MAX_ITEM} characters before the text")
        if name.strip() in found:
            raise InputError(f"{where} comes twice; keep one line of it")
        found[name.strip()] = text.strip()
    if not found:
        raise InputError(f"{path} is empty; expected a line per item, its id and its text")
    return found
