"""Gemma 3 (text): five local layers to one global, each kind with a rotary embedding of its own, normed queries and
keys. Source: `Gemma3TextConfig` of transformers; arXiv 2503.19786."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families import _gemma
from aloe_jax.models.families._config import FULL, SLIDING, Fields, rope_config, shrunk
from aloe_jax.models.families._table import table
from aloe_jax.models.families._weights import weight_table

ARCHITECTURE = "Gemma3ForCausalLM"
TABLE = table(
    ARCHITECTURE, "gemma3_text", (*_gemma.USED, "sliding_window_pattern", "rope_local_base_freq"), _gemma.NEUTRAL
)
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "query_pre_attn_scalar": 24,
    "sliding_window": 10,
    "sliding_window_pattern": 3,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE, **_gemma.DEFAULTS, rope_theta=1e6)
    every = fields.size("sliding_window_pattern", 6)
    layers = range(1, fields.size("num_hidden_layers") + 1)
    types = fields.layer_types([SLIDING if layer % every else FULL for layer in layers])
    window, score_cap = fields.size("sliding_window"), _gemma.cap(fields, "attn_logit_softcapping")
    kinds = {
        SLIDING: Layer(fields.rope(SLIDING), window, score_cap),
        FULL: Layer(fields.rope(FULL), None, score_cap),
    }
    pattern = shrunk([kinds[kind] for kind in types])
    return ModelConfig("gemma3", **_gemma.shared(fields), pattern=pattern, qk_norm="head")


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    ropes = {bool(layer.window): layer.rope for layer in model.each_layer()}
    found = _gemma.to_hf(model, TABLE, dtype)
    whole, local = ropes.get(False), ropes.get(True)
    return found | (rope_config(whole) if whole else {}) | ({"rope_local_base_freq": local.theta} if local else {})


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, _gemma.NORMS)
