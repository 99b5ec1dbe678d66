"""Qwen3: norms of queries and keys per head. Source: `Qwen3Config` of transformers; arXiv 2505.09388."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, ModelConfig, Weight
from aloe_jax.models.families import _qwen
from aloe_jax.models.families._config import Fields, base_config
from aloe_jax.models.families._table import table
from aloe_jax.models.families._weights import PRE_NORMS, weight_table

ARCHITECTURE = "Qwen3ForCausalLM"
TABLE = table(ARCHITECTURE, "qwen3", ("rms_norm_eps", "hidden_act", "attention_bias", *_qwen.WINDOWS))
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
ATTENTION = ("query", "key", "value", "output")


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE, head_dim=128, num_key_value_heads=32)
    fields.only(hidden_act="silu")
    biases = ATTENTION if fields.flag("attention_bias") else ()
    return ModelConfig("qwen3", **fields.sizes(), pattern=_qwen.pattern(fields), qk_norm="head", biases=biases)


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    base = base_config(model, TABLE, dtype) | _qwen.window_config(model)
    return base | {"attention_bias": bool(model.biases), "hidden_act": "silu"}


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, PRE_NORMS)
