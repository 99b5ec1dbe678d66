"""What Gemma 2 and 3 share: norms on both sides, scales by 1 + weight, scaled embeddings, local and global layers."""

from __future__ import annotations

from typing import Literal

from aloe_jax.models.config import ModelConfig
from aloe_jax.models.families._config import FULL, SLIDING, Fields, Sizes, base_config
from aloe_jax.models.families._table import Table

NORMS = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
USED = (
    "rms_norm_eps",
    "hidden_activation",
    "use_bidirectional_attention",
    "attention_bias",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "sliding_window",
    "layer_types",
)
NEUTRAL: dict[str, tuple[object, ...]] = {"hidden_act": ("gelu_pytorch_tanh", "gelu")}  # hidden_activation decides
DEFAULTS = {"tie_word_embeddings": True, "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 4096}
ACTIVATION = "gelu_pytorch_tanh"
ATTENTION = ("query", "key", "value", "output")


class Shared(Sizes):
    """The fields of ModelConfig that both have, except the layers' pattern."""

    norm: Literal["rms_offset"]
    post_norms: bool
    activation: Literal["gelu_tanh"]
    embed_scale: float
    query_scale: float
    final_soft_cap: float | None
    biases: tuple[str, ...]


def shared(fields: Fields) -> Shared:
    """The shared fields of a `config.json`. Raises InputError for unsupported options."""
    fields.only(hidden_activation=ACTIVATION, use_bidirectional_attention=False)
    return {
        **fields.sizes(),
        "norm": "rms_offset",
        "post_norms": True,
        "activation": "gelu_tanh",
        "embed_scale": fields.size("hidden_size") ** 0.5,
        "query_scale": fields.number("query_pre_attn_scalar") ** -0.5,
        "final_soft_cap": cap(fields, "final_logit_softcapping"),
        "biases": ATTENTION if fields.flag("attention_bias") else (),
    }


def cap(fields: Fields, name: str) -> float | None:
    """A soft cap that may be absent."""
    return float(fields.number(name)) if fields.get(name) is not None else None


def to_hf(model: ModelConfig, table: Table, dtype: str) -> dict[str, object]:
    """The `config.json` fields that both have."""
    layers = list(model.each_layer())
    scalar = model.scale**-2
    return base_config(model, table, dtype) | {
        "hidden_activation": ACTIVATION,
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 * scalar else scalar,
        "attn_logit_softcapping": layers[0].soft_cap,
        "final_logit_softcapping": model.final_soft_cap,
        "sliding_window": max((layer.window for layer in layers if layer.window), default=None),
        "layer_types": [SLIDING if layer.window else FULL for layer in layers],
        "attention_bias": bool(model.biases),
    }
