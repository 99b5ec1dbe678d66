"""Names and places of the models to serve, as the command line has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from aloe_jax.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][\w.:@/-]*\Z", re.ASCII)


def named_models(given: Sequence[str], name: str | None = None) -> list[tuple[str, str]]:
    """The (name, place) of each model of `given`, written as NAME=PLACE or as the place alone, which is its name then;
    `name` is that of a single one. A path that exists is a place, whatever characters it has.

    Raises InputError for a name that requests could not give, and for one given twice.
    """
    if name is not None and len(given) > 1:
        raise InputError(f"--name={name} names one model, and there are {len(given)}; write --model=NAME=DIR for each")
    pairs = [_pair(text) for text in given]
    if name is not None:
        if pairs[0][0] != pairs[0][1]:
            raise InputError(f"--name={name} and --model={given[0]} both name the model; give one name")
        pairs = [(_checked(name), pairs[0][1])]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two models have the name '{twice}'; write --model=NAME=DIR with a name for each")
    return pairs


def _pair(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not equals or "://" in name or Path(text).expanduser().exists():
        return text, text
    if not place:
        raise InputError(f"--model={text}: there is no place behind the name; write --model=NAME=DIR")
    return _checked(name), place


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise InputError(
            f"the name of a model is '{name}'; expected letters, digits and any of . : @ / _ -, a letter or digit first"
        )
    return name
