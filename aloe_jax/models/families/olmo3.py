"""OLMo 3: OLMo 2 with three local layers to one global, whose rotary embedding alone is stretched by YaRN. Source:
`Olmo3Config` of transformers; the OLMo 3 report (arXiv 2512.13961)."""

from __future__ import annotations

import math

from aloe_jax.errors import InputError
from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import (
    FULL,
    ORIGINAL,
    ROPE_TYPES,
    SLIDING,
    Fields,
    RopeType,
    base_config,
    scaling_config,
    shrunk,
)
from aloe_jax.models.families._table import shown, table
from aloe_jax.models.families._weights import weight_table
from aloe_jax.models.families.olmo2 import ATTENTION, NORMS
from aloe_jax.models.rope import Rope, YarnScaling

ARCHITECTURE = "Olmo3ForCausalLM"
TABLE = table(ARCHITECTURE, "olmo3", ("rms_norm_eps", "hidden_act", "attention_bias", "sliding_window", "layer_types"))
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 8.0,
        "attention_factor": 1.2079441541679836,
        "beta_fast": 3.0,
        "beta_slow": 0.25,
        "original_max_position_embeddings": 32,
    },
    "rms_norm_eps": 1e-6,
    "sliding_window": 11,
}
EVERY = 4  # the last of so many layers is global


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    Raises InputError for a missing field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE, rms_norm_eps=1e-5, rope_theta=500_000.0, sliding_window=4096)
    fields.only(hidden_act="silu")
    layers = fields.layer_types(
        [FULL if (layer + 1) % EVERY == 0 else SLIDING for layer in range(fields.size("num_hidden_layers"))]
    )
    by_kind = fields.table("rope_parameters")
    if set(by_kind) - {FULL, SLIDING}:
        raise InputError(
            f"config.json: rope_parameters is {shown(by_kind)}; expected an object for each of {FULL} and {SLIDING} "
            f"for {ARCHITECTURE}"
        )
    types = ROPE_TYPES | {"yarn": RopeType(("attention_factor", "beta_fast", "beta_slow"), _yarn)}
    window = fields.size("sliding_window")
    kinds = {
        SLIDING: Layer(fields.rope(SLIDING, types), window),
        FULL: Layer(fields.rope(FULL, types)),
    }
    return ModelConfig(
        "olmo3",
        **fields.sizes(),
        pattern=shrunk([kinds[kind] for kind in layers]),
        pre_norms=False,
        post_norms=True,
        qk_norm="width",
        biases=ATTENTION if fields.flag("attention_bias") else (),
    )


def _yarn(fields: Fields, rope: Fields, theta: float) -> YarnScaling:
    if theta <= 1:
        raise InputError(f"config.json: rope_theta is {theta}; expected more than 1 for YaRN")
    factor = float(rope.number("rope factor"))
    # section 3.4 of the paper
    amplitude = rope.number("rope attention_factor", 0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
    fast, slow = rope.number("rope beta_fast", 32.0), rope.number("rope beta_slow", 1.0)
    context = fields.size(ORIGINAL, fields.size("max_position_embeddings"))
    original = rope.size(f"rope {ORIGINAL}", context)
    return YarnScaling(theta, factor, float(amplitude), float(fast), float(slow), original)


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    layers = list(model.each_layer())
    ropes = {SLIDING if layer.window else FULL: layer.rope for layer in layers if layer.rope}
    rope = ropes.get(FULL) or ropes[SLIDING]
    return base_config(model, TABLE, dtype) | {
        "rope_theta": rope.theta,
        "rope_scaling": _scaling(rope),
        # transformers 5 reads these first, and gives local layers the usual base if they are missing
        "rope_parameters": {
            kind: {"rope_theta": rope.theta, "rope_type": "default"} | (_scaling(rope) or {})
            for kind, rope in ropes.items()
        },
        "sliding_window": max((layer.window for layer in layers if layer.window), default=None),
        "layer_types": [SLIDING if layer.window else FULL for layer in layers],
        "attention_bias": bool(model.biases),
        "hidden_act": "silu",
    }


def _scaling(rope: Rope) -> dict[str, object] | None:
    """The content of `rope_scaling`."""
    scaling = rope.scaling
    if not isinstance(scaling, YarnScaling):
        return scaling_config(scaling)
    return {
        "rope_type": "yarn",
        "factor": scaling.factor,
        "attention_factor": scaling.amplitude,
        "beta_fast": scaling.beta_fast,
        "beta_slow": scaling.beta_slow,
        ORIGINAL: scaling.original_context,
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, NORMS)
