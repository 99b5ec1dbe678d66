"""OLMo 7B (0724): layer norms without weights, clipped queries, keys and values. Source: `OlmoConfig` of transformers;
arXiv 2402.00838."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import Fields, base_config, rope_config
from aloe_jax.models.families._table import table
from aloe_jax.models.families._weights import weight_table

ARCHITECTURE = "OlmoForCausalLM"
TABLE = table(ARCHITECTURE, "olmo", ("hidden_act", "attention_bias", "clip_qkv"))
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rope_theta": 10_000.0,
    "clip_qkv": 0.5,
}
ATTENTION = ("query", "key", "value", "output")


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE)
    fields.only(hidden_act="silu")
    clip = fields.number("clip_qkv") if fields.get("clip_qkv") is not None else None
    biases = ATTENTION if fields.flag("attention_bias") else ()
    return ModelConfig(
        "olmo", **fields.sizes(), pattern=(Layer(fields.rope()),), norm="layer", clip_qkv=clip, biases=biases
    )


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    rope = model.pattern[0].rope
    assert rope
    base = base_config(model, TABLE, dtype)
    del base["rms_norm_eps"]
    return base | {
        **rope_config(rope),
        "clip_qkv": model.clip_qkv,
        "attention_bias": bool(model.biases),
        "hidden_act": "silu",
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, {})
