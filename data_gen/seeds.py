"""Reproducible draws: seeds, numbers and choices that depend only on their key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from aloe_jax import files

T = TypeVar("T")


def stable_seed(*parts: object) -> int:
    """A 31-bit seed that depends only on `parts`."""
    return int(files.sha256(*map(str, parts))[:8], 16) & 0x7FFFFFFF


def draw(options: Sequence[T], *key: object) -> T:
    """One of `options`, determined by `key`: the same on every machine and in every run."""
    return options[number(*key) % len(options)]


def number(*key: object) -> int:
    """A 64-bit number determined by `key`."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")
