"""Gemma 2: local and global layers in turn, soft caps on scores and logits. Source: `Gemma2Config` of transformers;
arXiv 2408.00118."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families import _gemma
from aloe_jax.models.families._config import FULL, SLIDING, Fields, rope_config, shrunk
from aloe_jax.models.families._table import table
from aloe_jax.models.families._weights import weight_table

ARCHITECTURE = "Gemma2ForCausalLM"
TABLE = table(ARCHITECTURE, "gemma2", _gemma.USED, _gemma.NEUTRAL)
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "query_pre_attn_scalar": 24,
    "sliding_window": 10,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 3.0,
}


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    fields = Fields(config, TABLE, **_gemma.DEFAULTS, **caps)
    rope, score_cap = fields.rope(), _gemma.cap(fields, "attn_logit_softcapping")
    types = fields.layer_types([(SLIDING, FULL)[layer % 2] for layer in range(fields.size("num_hidden_layers"))])
    window = fields.size("sliding_window")
    layers = shrunk([Layer(rope, window if kind == SLIDING else None, score_cap) for kind in types])
    return ModelConfig("gemma2", **_gemma.shared(fields), pattern=layers)


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    rope = model.pattern[0].rope
    assert rope
    return _gemma.to_hf(model, TABLE, dtype) | rope_config(rope)


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, _gemma.NORMS)
