"""Float32 means float32: the precision of matrix products in programs that compute in it.

On TPUs (and with TF32 on GPUs) a product of two f32 arrays is rounded to fewer bits unless its precision is stated:
by default a TPU multiplies them as bfloat16. Programs are traced under the highest precision here, so that no product
is left out; the transposed products of a backward pass inherit it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

HIGHEST = "highest"
# Passes of the bf16 matrix unit per product on a TPU (jax.lax.Precision): "highest" sums six products of bf16 parts.
PASSES = {jnp.dtype(jnp.float32): 6, jnp.dtype(jnp.bfloat16): 1}

P = ParamSpec("P")
R = TypeVar("R")


def in_precision_of(dtype: DTypeLike) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of functions to be traced: for float32 all their matrix products have the highest precision, for
    other types they stay as they are."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if jnp.dtype(dtype) != jnp.float32:
            return function

        @functools.wraps(function)
        def traced(*args: P.args, **kwargs: P.kwargs) -> R:
            with jax.default_matmul_precision(HIGHEST):
                return function(*args, **kwargs)

        return traced

    return decorate
