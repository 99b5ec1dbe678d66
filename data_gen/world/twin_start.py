"""The weights that the tiny model starts from: random, but for a circuit that takes words from the context.

A model that is trained for long finds such a circuit itself: a head that looks at the token before, and in the next
layer heads that look for what came after an earlier token of the same kind, and predict it (induction heads, arXiv
2209.11895). In the minutes that a CPU has it does not, so the maps begin near where they would end (in the spirit of
arXiv 2305.09828). The columns of a random rotation are four subspaces of a quarter of the width each.

- layer 1, head 1: by its biases alone, queries meet the key one position before; it reads subspace 0 of that token and
  writes it into subspace 1.
- layer 2, heads 1 and 2: queries read subspace 0 of their own token, keys subspace 1, both in the slow frequencies of
  the rotary embedding only; they copy subspaces 2 and 3 of the token that they find.
- layers after that: each head copies the subspace of its number.
- all other maps into the residual stream are small, so that the tokens' own embeddings stay visible.
"""

from __future__ import annotations

import jax
import numpy as np

from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params

SLOW = 0.02  # radians per position: tokens within some dozen positions still look alike
BEFORE = 5.0  # length of each pair of the biases of the head that looks back
QUIET = 0.1  # factor of the maps that have no part in the circuit
BACK, SEEK, COPY, LATER = 0.18, 5.0, 1.0, 0.1  # gains of its maps


def start_params(model: ModelConfig, seed: int) -> Params:
    """The parameters of a model of at least two layers, with as many key heads as query heads, that are four, a quarter
    of the width each, and with biases on them."""
    params = jax.tree.map(np.array, jax.jit(lambda: decoder.init_params(model, jax.random.key(seed)))())
    layers, width = params["layers"], model.head_dim
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(model.dim, model.dim)))[0]
    spaces = [rotation[:, row * width : (row + 1) * width] for row in range(4)]
    for name in ("output", "down"):
        layers[name] *= QUIET
    rope = model.pattern[0].rope
    assert rope
    frequencies = rope.frequencies(width)

    for name, angle in (("query", 0 * frequencies), ("key", frequencies)):
        layers[name][0, :, 0] *= QUIET
        layers[f"{name}_bias"][0, 0] = BEFORE * np.concatenate([np.cos(angle), np.sin(angle)])
    layers["value"][0, :, 0] = spaces[0]
    layers["output"][0, 0] = BACK * spaces[1].T

    slow = np.tile(frequencies < SLOW, 2)
    for head in (0, 1):
        layers["query"][1, :, head] = SEEK * spaces[0] * slow
        layers["key"][1, :, head] = spaces[1] * slow
        layers["value"][1, :, head] = spaces[2 + head]
        layers["output"][1, head] = COPY * spaces[2 + head].T
    for layer in range(2, model.layers):
        for head, space in enumerate(spaces):
            layers["value"][layer, :, head] = space
            layers["output"][layer, head] = LATER * space.T
    return params
