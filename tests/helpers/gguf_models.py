"""Tiny models of the four GGUF layouts, the same on every machine: those of the tests and of llama.cpp's golden
values."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from aloe_jax.hub import families
from aloe_jax.models.config import ModelConfig

_SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
}
# Content of config.json. Each has the oddities of its layout, and all but Qwen2 a head_dim that is not dim / heads.
CONFIGS = {
    "llama": {
        **_SIZES,
        "architectures": ["LlamaForCausalLM"],
        "head_dim": 32,
        "rope_theta": 10_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
    "qwen2": {
        **_SIZES,
        "architectures": ["Qwen2ForCausalLM"],
        "rope_theta": 1_000_000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "tie_word_embeddings": True,
    },
    "qwen3": {
        **_SIZES,
        "architectures": ["Qwen3ForCausalLM"],
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": False,
    },
    "gemma3": {
        **_SIZES,
        "architectures": ["Gemma3ForCausalLM"],
        "num_hidden_layers": 4,
        "head_dim": 32,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "query_pre_attn_scalar": 32,
        "sliding_window": 9,
        "sliding_window_pattern": 3,
        "tie_word_embeddings": True,
    },
}
TOKENS = [(7 * number * number + 3) % 95 for number in range(48)]  # beyond the windows and Llama's original context


def config(name: str, **changes: object) -> ModelConfig:
    """The model of a layout, with other fields of config.json where `changes` says so."""
    return families.model_config(CONFIGS[name] | changes, name)


def tensors(model: ModelConfig) -> dict[str, np.ndarray]:
    """Weights by Hugging Face name, float32 with bfloat16's values, of sizes that keep logits below 10.

    RandomState's stream is frozen (NEP 19), so the golden values of tests/fixtures/hub stay valid.
    """
    draw = np.random.RandomState(0)
    result = {}
    for weight in families.weights(model):
        for name in families.tensor_names(weight, model):
            values = draw.standard_normal(weight.shape)
            if len(weight.shape) == 2:
                values *= 0.25 if name == "model.embed_tokens.weight" else 2 * weight.shape[1] ** -0.5
            else:
                center = 1.0 if name.endswith("norm.weight") and model.family != "gemma3" else 0.0
                values = center + 0.25 * values
            result[name] = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    return result
