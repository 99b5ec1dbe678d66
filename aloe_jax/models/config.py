"""What a decoder is made of, as data. A family (llama.py, ...) maps its Hugging Face config to this and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one decoder-only transformer."""

    family: str  # which weight table and config mapping it came from
    vocab: int
    dim: int
    layers: int
    heads: int
    kv_heads: int  # grouped-query attention: heads // kv_heads queries share one key
    head_dim: int
    mlp_dim: int
    rope_theta: float
    norm_eps: float
    context: int  # longest path it was trained for, tokens
    tied: bool  # the output head is the embedding

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        attention = self.dim * self.head_dim * 2 * (self.heads + self.kv_heads)
        layer = attention + 3 * self.dim * self.mlp_dim + 2 * self.dim
        return self.layers * layer + self.dim + self.vocab * self.dim * (1 if self.tied else 2)


@dataclass(frozen=True)
class Weight:
    """One row of a family's weight table: a Hugging Face tensor name and where it lives in our parameters.

    `name` holds `{}` for the layer number where `path` starts with "layers"; `shape` is the Hugging Face shape.
    `to_param` and `to_hf` turn the tensor of one layer to our layout and back; both are pure views or transposes, so
    that a round trip keeps every byte.
    """

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...]
    to_param: Callable[[np.ndarray], np.ndarray]
    to_hf: Callable[[np.ndarray], np.ndarray]
