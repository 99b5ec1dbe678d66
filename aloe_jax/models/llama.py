"""The Llama family (Llama, SmolLM2): config mapping and weight names. Source: `LlamaConfig` of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aloe_jax.errors import InputError
from aloe_jax.models.config import ModelConfig, Weight

ARCHITECTURE = "LlamaForCausalLM"


def from_hf(config: dict[str, Any]) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    try:
        heads = config["num_attention_heads"]
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        model = ModelConfig(
            family="llama",
            vocab=config["vocab_size"],
            dim=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            mlp_dim=config["intermediate_size"],
            rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            context=config["max_position_embeddings"],
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError as missing:
        raise InputError(f"config.json: field {missing} is missing; it is needed for {ARCHITECTURE}") from None
    unsupported = {
        "attention_bias": (config.get("attention_bias", False), False),
        "mlp_bias": (config.get("mlp_bias", False), False),
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "rope type": (rope.get("rope_type", rope.get("type", "default")), "default"),
    }
    for field, (value, expected) in unsupported.items():
        if value != expected:
            raise InputError(f"config.json: {field} is {value!r}; only {expected!r} is supported for {ARCHITECTURE}")
    if model.heads % model.kv_heads:
        raise InputError(
            f"config.json: num_attention_heads {model.heads} is not a multiple of num_key_value_heads {model.kv_heads}"
        )
    return model


def to_hf(model: ModelConfig, dtype: str) -> dict[str, Any]:
    """The Hugging Face config of `model`; token ids and other tokenizer facts are added by the exporter."""
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "vocab_size": model.vocab,
        "hidden_size": model.dim,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.mlp_dim,
        "rope_theta": model.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": model.norm_eps,
        "max_position_embeddings": model.context,
        "tie_word_embeddings": model.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "torch_dtype": dtype,
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once. Linear maps are stored [out, in] by Hugging Face, [in, out...] by us."""
    d, f, h, g, k = model.dim, model.mlp_dim, model.heads, model.kv_heads, model.head_dim
    layer = "model.layers.{}."
    table = [
        _plain("model.embed_tokens.weight", ("embed",), (model.vocab, d)),
        _plain(layer + "input_layernorm.weight", ("layers", "attention_norm"), (d,)),
        _linear(layer + "self_attn.q_proj.weight", ("layers", "query"), (d, h, k), 1),
        _linear(layer + "self_attn.k_proj.weight", ("layers", "key"), (d, g, k), 1),
        _linear(layer + "self_attn.v_proj.weight", ("layers", "value"), (d, g, k), 1),
        _linear(layer + "self_attn.o_proj.weight", ("layers", "output"), (h, k, d), 2),
        _plain(layer + "post_attention_layernorm.weight", ("layers", "mlp_norm"), (d,)),
        _linear(layer + "mlp.gate_proj.weight", ("layers", "gate"), (d, f), 1),
        _linear(layer + "mlp.up_proj.weight", ("layers", "up"), (d, f), 1),
        _linear(layer + "mlp.down_proj.weight", ("layers", "down"), (f, d), 1),
        _plain("model.norm.weight", ("final_norm",), (d,)),
    ]
    if not model.tied:
        table.append(_linear("lm_head.weight", ("head",), (d, model.vocab), 1))
    return table


def _plain(name: str, path: tuple[str, ...], shape: tuple[int, ...]) -> Weight:
    same: Callable[[np.ndarray], np.ndarray] = lambda array: array  # noqa: E731
    return Weight(name, path, shape, same, same)


def _linear(name: str, path: tuple[str, ...], shape: tuple[int, ...], inputs: int) -> Weight:
    """A linear map whose first `inputs` axes of `shape` are its input."""
    fan_in, fan_out = int(np.prod(shape[:inputs])), int(np.prod(shape[inputs:]))
    return Weight(
        name,
        path,
        (fan_out, fan_in),
        lambda array: array.T.reshape(shape),
        lambda array: array.reshape(fan_in, fan_out).T,
    )
