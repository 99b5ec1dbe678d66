"""Parameter trees: nested dicts with one leaf per parameter, layers stacked on axis 0."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

# A leaf is an array; in trees of the same structure it is the array's shape, sharding or logical axes.
Params: TypeAlias = dict[str, Any]


def get_leaf(params: Params, path: Sequence[str]) -> Any:
    """The leaf (or branch) at `path`."""
    return functools.reduce(operator.getitem, path, params)


def set_leaf(params: Params, path: Sequence[str], leaf: object) -> None:
    """Put `leaf` at `path`, with the branches on the way there."""
    branch = functools.reduce(lambda place, part: place.setdefault(part, {}), path[:-1], params)
    branch[path[-1]] = leaf
