"""Phi-3 and Phi-4: fused linear maps, heads of which only a part rotates, LongRoPE. Source: `Phi3Config` of
transformers; arXiv 2412.08905 (Phi-4), 2503.01743 (Phi-4-mini)."""

from __future__ import annotations

from aloe_jax.errors import InputError
from aloe_jax.models.config import HfConfig, Layer, ModelConfig, Weight
from aloe_jax.models.families._config import ORIGINAL, PARTIAL, ROPE_TYPES, Fields, RopeType, base_config, rope_config
from aloe_jax.models.families._table import shown, table
from aloe_jax.models.families._weights import PRE_NORMS, weight_table
from aloe_jax.models.rope import LongRopeScaling, Rope

ARCHITECTURE = "Phi3ForCausalLM"
NEUTRAL: dict[str, tuple[object, ...]] = {"full_attn_mod": (1,), "interpolate_factor": (1,)}  # of Phi-4-mini
TABLE = table(ARCHITECTURE, "phi3", ("rms_norm_eps", "hidden_act", "sliding_window", PARTIAL), NEUTRAL)
TINY: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.75,
    "rms_norm_eps": 1e-5,
    "sliding_window": 30,
}
FUSED = {"self_attn.qkv_proj": ("query", "key", "value"), "mlp.gate_up_proj": ("gate", "up")}
SHORT, LONG = "short_factor", "long_factor"
TRAINED = 4096  # original_max_position_embeddings of the class


def from_hf(config: HfConfig) -> ModelConfig:
    """Our config from the content of a Hugging Face `config.json`.

    The context of a model with LongRoPE is that of its pretraining (`LongRopeScaling`). Raises InputError for a missing
    field and for options of the family that are not supported.
    """
    fields = Fields(config, TABLE, rms_norm_eps=1e-5)
    fields.only(hidden_act="silu")
    window = fields.size("sliding_window") if fields.get("sliding_window") is not None else None
    longrope = RopeType((SHORT, LONG), _longrope)
    types = {"default": ROPE_TYPES["default"], "longrope": longrope, "su": longrope}
    rope, sizes = fields.rope(types=types), fields.sizes()
    rotated = int(sizes["head_dim"] * rope.share)
    if rope.share > 1 or rotated < 2 or rotated % 2:
        raise InputError(
            f"config.json: {PARTIAL} is {rope.share}; expected a share of the head_dim {sizes['head_dim']} that gives "
            "an even number of dimensions, whose halves rotate"
        )
    if isinstance(rope.scaling, LongRopeScaling):
        scaling = rope.scaling
        for name, factors in ((SHORT, scaling.short), (LONG, scaling.long)):
            if len(factors) != rotated // 2:
                raise InputError(
                    f"config.json: rope {name} has {len(factors)} numbers; expected {rotated // 2}, one for each pair "
                    "of dimensions that rotates"
                )
        sizes["context"] = min(scaling.original_context, scaling.stated_context)
    return ModelConfig("phi3", **sizes, pattern=(Layer(rope, window),))


def _longrope(fields: Fields, rope: Fields, theta: float) -> LongRopeScaling:
    stated, original = fields.size("max_position_embeddings"), fields.size(ORIGINAL, TRAINED)
    rope.check(f"rope {ORIGINAL}", rope.get(f"rope {ORIGINAL}", original), original)  # transformers takes the outer one
    if original < 2:
        raise InputError(f"config.json: {ORIGINAL} is {original}; expected at least 2 for LongRoPE")
    return LongRopeScaling(_factors(rope, SHORT), _factors(rope, LONG), original, stated)


def _factors(rope: Fields, name: str) -> tuple[float, ...]:
    found = rope.items(f"rope {name}")
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) and one > 0 for one in found):
        raise InputError(f"config.json: rope {name} is {shown(found)}; expected numbers above 0")
    return tuple(float(one) for one in found if isinstance(one, (int, float)))


def to_hf(model: ModelConfig, dtype: str) -> dict[str, object]:
    """The Hugging Face config of `model`."""
    (layer,) = model.pattern
    rope = layer.rope
    assert rope
    scaling, written = rope.scaling, rope_config(Rope(rope.theta))
    if isinstance(scaling, LongRopeScaling):
        written |= {
            "rope_scaling": {"type": "longrope", SHORT: list(scaling.short), LONG: list(scaling.long)},
            "max_position_embeddings": scaling.stated_context,
            ORIGINAL: scaling.original_context,
        }
    return base_config(model, TABLE, dtype) | {
        **written,
        PARTIAL: rope.share,
        "sliding_window": layer.window,
        "hidden_act": "silu",
    }


def weights(model: ModelConfig) -> list[Weight]:
    """Every tensor of the family, once."""
    return weight_table(model, PRE_NORMS, FUSED)
