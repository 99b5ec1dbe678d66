"""Mistral 7B, with and without its sliding window. Source: `MistralConfig` of transformers; arXiv 2310.06825."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import Fields, base_config, rope_config
from aloe_jax.models.families._weights import PRE_NORMS, weight_table

ARCHITECTURE = "MistralForCausalLM"
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rope_theta": 1_000_000.0,
    "sliding_window": 12,
    "rms_norm_eps": 1e-5,
}


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, ARCHITECTURE)
    fields.only(hidden_act="silu")
    window = fields.size("sliding_window") if fields.get("sliding_window") is not None else None
    return ModelConfig("mistral", **fields.sizes(), pattern=(Layer(fields.rope(), window),))


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    (layer,) = model.pattern
    assert layer.rope
    return base_config(model, ARCHITECTURE, "mistral", dtype) | {
        **rope_config(layer.rope),
        "sliding_window": layer.window,
        "hidden_act": "silu",
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, PRE_NORMS)
