"""The matrix products of one decode step and nothing else: what the weights alone cost.

Two layouts: `columns`, each weight as [inputs, outputs], and `blocks`, as [outputs / 64, inputs, 64] with one product
per block, as the engine has them on CPUs. One jitted program per layer and one for the
output head, called from the host.

Axes: M rows, I inputs, O outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aloe_jax.models import decoder
from aloe_jax.models.config import LINEAR, ModelConfig
from aloe_jax.ops import column_blocks

HEAD_PARTS = 32  # arrays of the blocked head, so that the copy of the rows per block stays small
Weights = dict[str, Any]


def columns(rows: Float[Array, "M I"], weight: Float[Array, "I O"]) -> Float[Array, "M O"]:
    """rows times weight."""
    return rows @ weight


LAYOUTS: dict[str, tuple[Callable[[Array, Array], Array], Callable[[Array], Array]]] = {
    "columns": (columns, lambda weight: weight),
    "blocks": (column_blocks.product, functools.partial(column_blocks.split, inputs=1)),
}


def _layer(product: Callable[[Array, Array], Array], x: Array, weights: Weights) -> Array:
    """The seven products of a layer; each input depends on the product before it."""
    query, key, value = (product(x, weights[name]) for name in ("query", "key", "value"))
    shared = jnp.tile(key + value, (1, query.shape[1] // key.shape[1]))
    x = x + product(query + shared, weights["output"])
    return x + product(product(x, weights["gate"]) * product(x, weights["up"]), weights["down"])


def _matrix(weight: Array, inputs: int) -> Array:
    """A layer's weight, whose first axes are its inputs, as a matrix."""
    return weight.reshape(*(int(jnp.prod(jnp.array(weight.shape[:inputs]))), -1))


class Floor:
    """The products of `model` with the weights of `params`, in one of the two layouts."""

    def __init__(self, model: ModelConfig, params: decoder.Params, layout: str) -> None:
        product, arrange = LAYOUTS[layout]
        layers = params["layers"]
        self._layers: Sequence[Weights] = [
            {name: jnp.array(arrange(_matrix(layers[name][index], len(LINEAR[name][0])))) for name in LINEAR}
            for index in range(model.layers)
        ]
        head = decoder.head_weight(params, model)
        parts = jnp.split(head, HEAD_PARTS, axis=1) if layout == "blocks" else [head]
        self._head = [jnp.array(arrange(part)) for part in parts]
        self._layer = jax.jit(functools.partial(_layer, product))
        self._logits = jax.jit(lambda x, head: [product(x, part) for part in head])
        self._dim = model.dim

    def step(self, rows: int) -> None:
        """All products of one step for `rows` rows, to the end."""
        x = jnp.full((rows, self._dim), 0.01)
        for weights in self._layers:
            x = self._layer(x, weights)
        jax.block_until_ready(self._logits(x, self._head))
