"""The matrix products of one decode step and nothing else: what the weights alone cost.

One jitted program per layer and one for the output head, called from the host.

Axes: M rows, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aloe_jax.models import decoder
from aloe_jax.models.config import LINEAR, ModelConfig

Weights = dict[str, Array]


def _layer(x: Float[Array, "M D"], weights: Weights) -> Float[Array, "M D"]:
    """The seven products of a layer; each input depends on the product before it."""
    query, key, value = (x @ weights[name] for name in ("query", "key", "value"))
    shared = jnp.tile(key + value, (1, query.shape[1] // key.shape[1]))
    x = x + (query + shared) @ weights["output"]
    return x + ((x @ weights["gate"]) * (x @ weights["up"])) @ weights["down"]


def _matrix(weight: Array, inputs: int) -> Array:
    """A layer's weight, whose first axes are its inputs, as a matrix."""
    return weight.reshape(*(int(jnp.prod(jnp.array(weight.shape[:inputs]))), -1))


class Floor:
    """The products of `model` with the weights of `params`."""

    def __init__(self, model: ModelConfig, params: decoder.Params) -> None:
        layers = params["layers"]
        self._layers: Sequence[Weights] = [
            {name: jnp.array(_matrix(layers[name][index], len(LINEAR[name][0]))) for name in LINEAR}
            for index in range(model.layers)
        ]
        self._head = jnp.array(decoder.head_weight(params, model))
        self._layer = jax.jit(_layer)
        self._logits = jax.jit(jnp.matmul)
        self._dim = model.dim

    def step(self, rows: int) -> None:
        """All products of one step for `rows` rows, to the end."""
        x = jnp.full((rows, self._dim), 0.01)
        for weights in self._layers:
            x = self._layer(x, weights)
        jax.block_until_ready(self._logits(x, self._head))
