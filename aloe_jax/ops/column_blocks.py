"""Products with weights that are held in blocks of columns, for decoding on CPUs.

XLA's CPU backend hands every product to a library that packs a wide weight anew at each call, which costs more than the
product of a few rows. In blocks of 64 columns, with the blocks as a batch axis, it takes the weight as it lies: a step
of SmolLM2-135M takes 24 ms of CPU time for 2 rows in place of 63, 42 in place of 67 for 8 (`benchmarks/decode.py`).

Axes: M rows, I inputs, N columns.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

WIDTH = 64  # columns of a block; 32, 48 and 96 are a little slower, 16 and 192 much
MOST_ROWS = 64  # from here on packing pays, so the blocks are put back beside each other
GROUP = 24  # blocks of the output head that share one copy of its input


def split(weight: Float[Array, ...], inputs: int) -> Float[Array, ...]:
    """A weight [I..., N...] with `inputs` input axes as blocks [N / 64, I, 64]; as it is where 64 does not divide N."""
    columns = math.prod(weight.shape[inputs:])
    blocks = (columns // WIDTH, math.prod(weight.shape[:inputs]), WIDTH)
    if columns % WIDTH or blocks == weight.shape:
        return weight
    return jnp.moveaxis(weight.reshape(blocks[1], blocks[0], WIDTH), 1, 0)


def product(x: Float[Array, "M I"], blocks: Float[Array, ...]) -> Float[Array, "M N"]:
    """x W for W in blocks [N / 64, I, 64]."""
    number, inputs, width = blocks.shape
    if len(x) > MOST_ROWS:
        return x @ jnp.moveaxis(blocks, 0, 1).reshape(inputs, number * width)
    found = jax.lax.dot_general(jnp.broadcast_to(x, (number, *x.shape)), blocks, (((2,), (1,)), ((0,), (0,))))
    return jnp.moveaxis(found, 0, 1).reshape(len(x), number * width)
