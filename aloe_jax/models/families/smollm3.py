"""SmolLM3: Llama with layers without positions. Source: `SmolLM3Config` of transformers."""

from __future__ import annotations

from aloe_jax.errors import InputError
from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import FULL, SLIDING, Fields, base_config, rope_config, shrunk
from aloe_jax.models.families._table import shown, table
from aloe_jax.models.families._weights import PRE_NORMS, weight_table

ARCHITECTURE = "SmolLM3ForCausalLM"
WINDOWS = ("use_sliding_window", "sliding_window", "layer_types", "no_rope_layers", "no_rope_layer_interval")
TABLE = table(ARCHITECTURE, "smollm3", ("rms_norm_eps", "hidden_act", "attention_bias", "mlp_bias", *WINDOWS))
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rope_theta": 2_000_000.0,
    "no_rope_layer_interval": 3,
    "use_sliding_window": True,
    "sliding_window": 13,
}
ATTENTION, MLP = ("query", "key", "value", "output"), ("gate", "up", "down")


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE, rope_theta=2e6, tie_word_embeddings=True)
    fields.only(hidden_act="silu")
    layers, every = fields.size("num_hidden_layers"), fields.size("no_rope_layer_interval", 4)
    turns = fields.items("no_rope_layers") or [int((layer + 1) % every != 0) for layer in range(layers)]
    if len(turns) < layers:
        raise InputError(f"config.json: no_rope_layers has {len(turns)} entries; expected one for each of {layers}")
    if any(type(turn) is not int or turn not in (0, 1) for turn in turns):
        raise InputError(f"config.json: no_rope_layers is {shown(turns)}; expected 0 or 1 for each layer")
    windowed = fields.flag("use_sliding_window") and fields.get("sliding_window") is not None
    window = fields.size("sliding_window") if windowed else None
    types = fields.layer_types([SLIDING if window and not turn else FULL for turn in turns[:layers]])
    rope = fields.rope()
    pattern = [
        Layer(rope if turn else None, window if kind == SLIDING else None)
        for turn, kind in zip(turns, types, strict=False)
    ]
    biases = ATTENTION * fields.flag("attention_bias") + MLP * fields.flag("mlp_bias")
    return ModelConfig("smollm3", **fields.sizes(), pattern=shrunk(pattern), biases=biases)


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    layers = list(model.each_layer())
    windows = {layer.window for layer in layers if layer.window}
    rope = next((layer.rope for layer in layers if layer.rope), None)
    return base_config(model, TABLE, dtype) | {
        **(rope_config(rope) if rope else {}),
        "no_rope_layers": [int(layer.rope is not None) for layer in layers],
        "use_sliding_window": bool(windows),
        "sliding_window": max(windows, default=None),
        "layer_types": [SLIDING if layer.window else FULL for layer in layers],
        "attention_bias": "query" in model.biases,
        "mlp_bias": "gate" in model.biases,
        "hidden_act": "silu",
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, PRE_NORMS)
