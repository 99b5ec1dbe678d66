"""Qwen2 and Qwen2.5: biases on queries, keys and values. Source: `Qwen2Config` of transformers; arXiv 2407.10671."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, ModelConfig, Weight
from aloe_jax.models.families import _qwen
from aloe_jax.models.families._config import Fields, base_config
from aloe_jax.models.families._table import table
from aloe_jax.models.families._weights import PRE_NORMS, weight_table

ARCHITECTURE = "Qwen2ForCausalLM"
TABLE = table(ARCHITECTURE, "qwen2", ("rms_norm_eps", "hidden_act", *_qwen.WINDOWS))
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "use_sliding_window": True,
    "sliding_window": 9,
    "max_window_layers": 1,
}


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE, num_key_value_heads=32)
    fields.only(hidden_act="silu")
    biases = ("query", "key", "value")
    return ModelConfig("qwen2", **fields.sizes(), pattern=_qwen.pattern(fields), biases=biases)


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    base = base_config(model, TABLE, dtype)
    return base | _qwen.window_config(model) | {"hidden_act": "silu"}


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, PRE_NORMS)
