"""OLMo 2: norms after attention and MLP, queries and keys normed over all heads at once. Source: `Olmo2Config` of
transformers; arXiv 2501.00656."""

from __future__ import annotations

from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import Fields, base_config, rope_config
from aloe_jax.models.families._table import table
from aloe_jax.models.families._weights import weight_table

ARCHITECTURE = "Olmo2ForCausalLM"
TABLE = table(ARCHITECTURE, "olmo2", ("rms_norm_eps", "hidden_act", "attention_bias"))
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-6,
}
ATTENTION = ("query", "key", "value", "output")
NORMS = {"attention_post_norm": "post_attention_layernorm", "mlp_post_norm": "post_feedforward_layernorm"}


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE, rms_norm_eps=1e-5)
    fields.only(hidden_act="silu")
    return ModelConfig(
        "olmo2",
        **fields.sizes(),
        pattern=(Layer(fields.rope()),),
        pre_norms=False,
        post_norms=True,
        qk_norm="width",
        biases=ATTENTION if fields.flag("attention_bias") else (),
    )


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    rope = model.pattern[0].rope
    assert rope
    return base_config(model, TABLE, dtype) | {
        **rope_config(rope),
        "attention_bias": bool(model.biases),
        "hidden_act": "silu",
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, NORMS)
