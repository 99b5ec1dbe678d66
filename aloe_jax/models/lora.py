"""Low-rank adapters (LoRA, arXiv 2106.09685): a linear map x W becomes x W + alpha / rank * x A B, with A and B trained
and W frozen. A's parameter is beside W's as `<map>_lora_a`, B's as `<map>_lora_b`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from aloe_jax.errors import InputError
from aloe_jax.models.params import Params
from aloe_jax.settings import setting

A, B = "_lora_a", "_lora_b"


@dataclass(frozen=True)
class LoraSettings:
    """`config.lora`: low-rank adapters in SFT and preference training, instead of training all weights."""

    maps: str = setting(
        "",
        "which linear maps have one: a regular expression over query, key, value, output, gate, up, down and, where it "
        "is not tied, head, such as 'query|value' or '.*'; empty trains all weights",
    )
    rank: int = setting(16, "columns of A and rows of B", minimum=1)
    alpha: float = setting(32.0, "the adapter's output is scaled by alpha / rank", above=0)
    dropout: float = setting(0.0, "share of the adapters' inputs dropped in training", minimum=0, below=1)


@dataclass(frozen=True)
class Lora:
    """The maps that have an adapter, and its size."""

    maps: tuple[str, ...]  # names of linear maps: those of a layer, and "head" if it is not tied
    rank: int
    alpha: float  # the adapter's output is scaled by alpha / rank
    dropout: float = 0.0  # fraction of the adapter's inputs dropped in training

    @property
    def scale(self) -> float:
        """The factor of x A B."""
        return self.alpha / self.rank


def make_lora(pattern: str, rank: int, alpha: float, dropout: float, known: tuple[str, ...]) -> Lora:
    """The adapters for a regular expression over the names of linear maps ("query|value", ".*").

    Raises InputError for an invalid pattern, one that matches no name of `known`, and numbers out of range.
    """
    try:
        maps = tuple(name for name in known if re.fullmatch(pattern, name))
    except re.error as error:
        raise InputError(f"config.lora.maps: '{pattern}' is not a regular expression ({error})") from None
    if not maps:
        raise InputError(f"config.lora.maps: '{pattern}' matches no linear map; there are {', '.join(known)}")
    if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
        raise InputError(
            f"config.lora: rank {rank}, alpha {alpha}, dropout {dropout}; expected rank of at least 1, alpha above 0, "
            "dropout from 0 to below 1"
        )
    return Lora(maps, rank, float(alpha), float(dropout))


def unmatched(pattern: str, known: tuple[str, ...]) -> list[str]:
    """The alternatives of a valid regular expression ("query|valeu") that match no name of `known`."""
    parts, depth, start, place = [], 0, 0, 0
    while place < len(pattern):
        character = pattern[place]
        depth += (character in "([") - (character in ")]")
        if character == "|" and not depth:
            parts.append(pattern[start:place])
            start = place + 1
        place += 2 if character == "\\" else 1
    parts.append(pattern[start:])
    return [part for part in parts if not any(re.fullmatch(part, name) for name in known)]


def is_adapter(name: str) -> bool:
    """Whether a parameter of that name belongs to an adapter."""
    return name.endswith((A, B))


def split(params: Params) -> tuple[Params, Params]:
    """(adapters, everything else) of a parameter tree; empty branches are left out."""
    adapters: Params = {}
    rest: Params = {}
    for name, value in params.items():
        if isinstance(value, dict):
            inner = split(value)
            for side, part in zip((adapters, rest), inner, strict=True):
                if part:
                    side[name] = part
        else:
            (adapters if is_adapter(name) else rest)[name] = value
    return adapters, rest


def join(first: Params, second: Params) -> Params:
    """The union of two parameter trees that share no leaf."""
    joined = dict(first)
    for name, value in second.items():
        joined[name] = join(first[name], value) if name in first else value
    return joined


def merge(params: Params, lora: Lora) -> Params:
    """The equivalent parameters without adapters: W + alpha / rank * A B, in W's type."""
    adapters, base = split(params)

    def merged(place: Params, beside: Params) -> Params:
        result = dict(place)
        for name, value in beside.items():
            if isinstance(value, dict):
                result[name] = merged(place[name], value)
            elif name.endswith(A):
                weight = name.removesuffix(A)
                result[weight] = _merge(place[weight], value, beside[weight + B], lora.scale)
        return result

    return merged(base, adapters)


def _merge(weight: Array, a: Array, b: Array, scale: float) -> Array:
    """W + scale * A B. Where all have a layer axis, the product is taken layer by layer."""
    stacked = a.ndim + b.ndim - 2 - weight.ndim  # 1 if all have a layer axis
    product = lambda left, right: jnp.tensordot(left, right, axes=1)  # noqa: E731
    added = jax.vmap(product)(a, b) if stacked else product(a, b)
    return (weight.astype(jnp.float32) + scale * added.astype(jnp.float32)).astype(weight.dtype)
