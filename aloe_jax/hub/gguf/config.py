"""The `config.json` of a GGUF file: its metadata as Hugging Face's fields, those of the model without token ids.

Keys and their defaults are llama.cpp's (`llama-arch.cpp`, `src/models`); values without a key are those that it
computes with.
"""

from __future__ import annotations

from aloe_jax.errors import InputError
from aloe_jax.hub.gguf.file import ROPE_FACTORS, GGUFFile
from aloe_jax.hub.gguf.rope import llama3_scaling

# Gemma 3 as llama.cpp computes it if the file does not state the values.
LOCAL_ROPE_BASE = 10_000.0
WINDOW_PATTERN = 6
LAYER_TYPES = {False: "full_attention", True: "sliding_attention"}
GEMMA3_27B_LAYERS = 62  # the one size whose queries are scaled by dim / heads, not by head_dim


def hf_config(source: GGUFFile) -> dict[str, object]:
    """The model's fields of `config.json`.

    Raises InputError for a missing key and for features that Hugging Face's config of the architecture cannot express:
    rotary scaling of another kind, partial rotary positions, mixtures of experts.
    """
    dim, heads = source.size("embedding_length"), source.size("attention.head_count")
    head_dim = source.size("attention.key_length", dim // heads)
    supported: dict[str, object] = {
        "rope.dimension_count": head_dim,
        "attention.value_length": head_dim,
        "attention.causal": True,
        "expert_count": 0,
    }
    if not source.layout.windows:
        supported["attention.sliding_window"] = 0
    for name, expected in supported.items():
        if source.model(name, expected) != expected:
            raise InputError(f"{source.path}: {source.key(name)} is {source.model(name)}; only {expected} is supported")
    theta, layers = source.positive("rope.freq_base", 10_000.0), source.size("block_count")
    fields = {
        "architectures": [source.layout.architecture],
        "vocab_size": len(source.require("tokenizer.ggml.tokens")),
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": source.size("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": source.size("feed_forward_length"),
        "max_position_embeddings": source.size("context_length"),
        "rope_theta": theta,
        "rope_scaling": _rope_scaling(source, theta, head_dim),
        "rms_norm_eps": source.positive("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": not source.holds("output.weight"),
        "attention_bias": source.holds("blk.0.attn_output.bias"),
        "mlp_bias": source.holds("blk.0.ffn_down.bias"),
    }
    if source.layout.windows:
        scalar = dim // heads if layers == GEMMA3_27B_LAYERS else head_dim
        return fields | _gemma3_fields(source, layers, scalar)
    return fields


def _rope_scaling(source: GGUFFile, theta: float, head_dim: int) -> dict[str, object] | None:
    """The `rope_scaling` field: none, linear (from the metadata) or llama3 (from a tensor)."""
    kind = source.model("rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        key = source.key("rope.scaling.type")
        raise InputError(f"{source.path}: {key} is {kind}; only none and linear are supported")
    # Older files have the second key; 0 means none.
    factor = source.decimal("rope.scaling.factor", source.decimal("rope.scale_linear", 0.0))
    linear: dict[str, object] | None = None
    if kind == "linear" and factor not in (0, 1):
        linear = {"rope_type": "linear", "factor": factor}
    if not (source.layout.rope_factors and source.holds(ROPE_FACTORS)):
        return linear
    factors, scaling = source.read(ROPE_FACTORS), None
    if linear is None and factors.shape == (head_dim // 2,):
        scaling = llama3_scaling(factors, theta)
    if scaling is None:
        raise InputError(
            f"{source.path}: config.json cannot state the rotary factors in tensor '{ROPE_FACTORS}', which are not "
            "those of Llama 3.1's scaling; import the model's Hugging Face folder instead"
        )
    return scaling or None


def _gemma3_fields(source: GGUFFile, layers: int, query_scalar: int) -> dict[str, object]:
    """The fields that only Gemma 3 has: windows and the rotary base of the local layers, the queries' scale."""
    windowed = bool(source.model("attention.sliding_window", 0))  # without one, all layers are global
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": query_scalar,
        "layer_types": [LAYER_TYPES[local] for local in _local(source, layers, windowed)],
        "rope_local_base_freq": source.positive("rope.freq_base_swa", LOCAL_ROPE_BASE),
        "final_logit_softcapping": source.decimal("final_logit_softcapping", 0.0) or None,
        "attn_logit_softcapping": source.decimal("attn_logit_softcapping", 0.0) or None,
        **({"sliding_window": source.size("attention.sliding_window")} if windowed else {}),
    }


def _local(source: GGUFFile, layers: int, windowed: bool) -> list[bool]:
    """Whether each layer is local: stated one by one, or all except every n-th."""
    name = "attention.sliding_window_pattern"
    stated = source.model(name)
    if not isinstance(stated, list):
        every = source.size(name, WINDOW_PATTERN)
        return [windowed and (layer + 1) % every != 0 for layer in range(layers)]
    if len(stated) != layers:
        raise InputError(f"{source.path}: {source.key(name)} has {len(stated)} entries for {layers} layers")
    return [windowed and bool(local) for local in stated]
