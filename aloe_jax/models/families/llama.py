"""Llama 2, 3, 3.1, 3.2 and SmolLM2. Source: `LlamaConfig` of transformers."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import Fields, base_config, rope_config
from aloe_jax.models.families._table import table
from aloe_jax.models.families._weights import PRE_NORMS, weight_table

ARCHITECTURE = "LlamaForCausalLM"
TABLE = table(ARCHITECTURE, "llama", ("rms_norm_eps", "hidden_act", "attention_bias", "mlp_bias"))
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "rms_norm_eps": 1e-5,
    "attention_bias": True,
    "mlp_bias": True,
}
ATTENTION, MLP = ("query", "key", "value", "output"), ("gate", "up", "down")


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE)
    fields.only(hidden_act="silu")
    biases = ATTENTION * fields.flag("attention_bias") + MLP * fields.flag("mlp_bias")
    return ModelConfig("llama", **fields.sizes(), pattern=(Layer(fields.rope()),), biases=biases)


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    rope = model.pattern[0].rope
    assert rope
    return base_config(model, TABLE, dtype) | {
        **rope_config(rope),
        "attention_bias": "query" in model.biases,
        "mlp_bias": "gate" in model.biases,
        "hidden_act": "silu",
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, PRE_NORMS)
