"""Figures of earlier compilations, kept in the cache folder under a hash of all that decides them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import aloe_jax
from aloe_jax import files
from aloe_jax.hub.folders import cache_root
from aloe_jax.plan.figures import Figures

# Whose code a program is made from, and read with: a changed kernel or model is another program.
CODE = ("decode", "models", "ops", "parallel", "train", "tree", "plan/hlo", "plan/compile.py", "plan/figures.py")

_kept_alone = ContextVar("kept_alone", default=False)


class NotKeptError(LookupError):
    """A program was never compiled, and must not be now."""


@contextmanager
def kept_alone() -> Iterator[None]:
    """In which `cached` makes no figures: it raises NotKeptError instead."""
    token = _kept_alone.set(True)
    try:
        yield
    finally:
        _kept_alone.reset(token)


def cached(key: Mapping[str, object], make: Callable[[], Figures]) -> Figures:
    """The figures kept for `key`, made where there are none. The versions of compiler and code are part of every
    key. NotKeptError inside `kept_alone`, where there are none."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}
    whole = files.canonical({"key": key, "versions": versions, "code": _code_hash()})
    path = cache_root() / "plans" / f"{files.sha256(whole)[:32]}.json"
    if path.exists():
        return Figures(**files.read_json(path))
    if _kept_alone.get():
        raise NotKeptError(path)
    found = make()
    files.write_json(path, dataclasses.asdict(found))
    return found


def _code_hash() -> str:
    root = Path(aloe_jax.__file__).parent
    places = [root / name for name in CODE]
    paths = [path for place in places for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    return files.sha256(*(path.read_bytes() for path in paths))
