"""Mistral 7B, with and without its sliding window. Source: `MistralConfig` of transformers; arXiv 2310.06825."""

from __future__ import annotations

from aloe_jax.errors import InputError
from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import FULL, SLIDING, Fields, base_config, rope_config
from aloe_jax.models.families._table import shown, table
from aloe_jax.models.families._weights import PRE_NORMS, weight_table

ARCHITECTURE = "MistralForCausalLM"
TABLE = table(ARCHITECTURE, "mistral", ("rms_norm_eps", "hidden_act", "sliding_window", "layer_types"))
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
    fields = Fields(config, TABLE, num_key_value_heads=8, sliding_window=4096)
    fields.only(hidden_act="silu")
    window = fields.size("sliding_window") if fields.get("sliding_window") is not None else None
    kind = SLIDING if window else FULL  # transformers gives every layer the window
    if any(each != kind for each in fields.items("layer_types")):
        raise InputError(
            f"config.json: layer_types is {shown(fields.items('layer_types'))}; only {kind!r} in every layer is "
            f"supported for {ARCHITECTURE} with sliding_window {window}"
        )
    return ModelConfig("mistral", **fields.sizes(), pattern=(Layer(fields.rope(), window),))


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    (layer,) = model.pattern
    assert layer.rope
    return base_config(model, TABLE, dtype) | {
        **rope_config(layer.rope),
        "sliding_window": layer.window,
        "hidden_act": "silu",
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, PRE_NORMS)
