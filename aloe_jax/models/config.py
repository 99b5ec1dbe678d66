"""The description of a decoder as data. A family (families/) maps its Hugging Face config to this and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from aloe_jax.models.lora import Lora
from aloe_jax.models.rope import Rope

# The content of a Hugging Face `config.json`: arbitrary JSON, which `families/_config.py:Fields` reads with checks.
HfConfig: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Layer:
    """What may differ between layers. The scan over layers gets it as values, never as branches."""

    rope: Rope | None  # None: no positions in this layer (NoPE, arXiv 2305.19466)
    window: int | None = None  # a token attends to those fewer than `window` positions back on its path; None: all
    soft_cap: float | None = None  # attention scores s become soft_cap * tanh(s / soft_cap) (Gemma 2)


# The linear maps of a layer: input and output axes by logical name (parallel/sharding.py shards them).
LINEAR: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "query": (("embed",), ("heads", "head_dim")),
    "key": (("embed",), ("kv_heads", "head_dim")),
    "value": (("embed",), ("kv_heads", "head_dim")),
    "output": (("heads", "head_dim"), ("embed",)),
    "gate": (("embed",), ("mlp",)),
    "up": (("embed",), ("mlp",)),
    "down": (("mlp",), ("embed",)),
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one decoder-only transformer."""

    family: str  # whose weight table and config mapping it has
    vocab: int
    dim: int
    layers: int
    heads: int
    kv_heads: int  # grouped-query attention: heads // kv_heads query heads share one key head
    head_dim: int
    mlp_dim: int
    norm_eps: float
    context: int  # maximum path length in training, tokens
    tied: bool  # the output head is the embedding
    pattern: tuple[Layer, ...]  # layer l is pattern[l % len(pattern)]
    # "rms"; "rms_offset" scales by 1 + the stored weight (Gemma); "layer" subtracts the mean and has no weight (OLMo)
    norm: Literal["rms", "rms_offset", "layer"] = "rms"
    pre_norms: bool = True  # norms before attention and MLP ...
    post_norms: bool = False  # ... and after them, before the residual is added
    qk_norm: Literal["", "head", "width"] = ""  # RMS norm of queries and keys, over each head or over all heads
    biases: tuple[str, ...] = ()  # linear maps that add a bias
    activation: Literal["silu", "gelu_tanh"] = "silu"
    clip_qkv: float | None = None  # queries, keys and values are clipped to +- this
    embed_scale: float = 1.0
    query_scale: float | None = None  # of attention scores; None: head_dim ** -0.5
    final_soft_cap: float | None = None  # of the output logits
    lora: Lora | None = None  # low-rank adapters beside linear maps

    @property
    def scale(self) -> float:
        """The factor of attention scores."""
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each logical axis."""
        return {
            "vocab": self.vocab,
            "embed": self.dim,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "mlp": self.mlp_dim,
            "norm": self.dim,
        }

    def shape(self, axes: tuple[str, ...]) -> tuple[int, ...]:
        """The sizes of logical axes."""
        return tuple(self.sizes[axis] for axis in axes)

    def each_layer(self) -> Iterator[Layer]:
        """The layers in order."""
        return (self.pattern[layer % len(self.pattern)] for layer in range(self.layers))

    def matmul_flops(self, tokens: float, pairs: float, targets: float) -> float:
        """Floating-point operations of a forward pass's matrix products (two per multiply-add).

        `tokens` go through the layers, `pairs` query-key pairs are unmasked (the mean over layers, where windows
        differ), `targets` states go through the output head. A backward pass takes twice as many.
        """
        linear = sum(math.prod(self.shape(inputs + outputs)) for inputs, outputs in LINEAR.values())
        attention = 2 * self.heads * self.head_dim
        return 2.0 * (self.layers * (tokens * linear + pairs * attention) + targets * self.dim * self.vocab)


@dataclass(frozen=True)
class Weight:
    """One row of a family's weight table: a Hugging Face tensor name and its place in our parameters.

    `name` holds `{}` for the layer number if `path` starts with "layers"; `shape` is the Hugging Face shape. `to_param`
    and `to_hf` convert the tensor of one layer to our layout and back; both are pure views or transposes, so that a
    round trip keeps every byte. A tensor that holds several parameters (fused queries, keys and values) has an entry
    for each, in order: `to_param` takes the parameter's rows of the tensor, `to_hf` gives those rows.
    """

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...]
    to_param: Callable[[np.ndarray], np.ndarray]
    to_hf: Callable[[np.ndarray], np.ndarray]
