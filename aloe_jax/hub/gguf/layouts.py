"""The layouts that llama.cpp's converter gives a Hugging Face checkpoint, one per architecture.

Source: llama.cpp's `convert_hf_to_gguf.py` (row order, norms) and `gguf-py/gguf/constants.py` (names). Layouts are
used by config.py (metadata) and file.py (tensors).
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
HEAD_NORM_NAMES = {
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
# Norms before and after each half of a block; here `ffn_norm` is the one before the second half.
SANDWICH_NORM_NAMES = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


@dataclass(frozen=True)
class Layout:
    """The storage of one `general.architecture`, whose metadata keys start with its name."""

    architecture: str  # Hugging Face's name, `architectures` of config.json
    layer_names: dict[str, str]  # GGUF tensor of a block, without "blk.N." and ".weight" -> Hugging Face's
    paired_rows: bool = False  # rows of query and key: i beside i + head_dim / 2, for llama.cpp's older rotary kernel
    rope_factors: bool = False  # Llama 3.1's rotary scaling is a tensor, rope_freqs.weight
    norm_offset: float = 0.0  # the constant that was added to the norms' weights
    windows: bool = False  # local and global layers; see `config.py`

    def hf_name(self, name: str) -> tuple[str, str]:
        """The Hugging Face name of a GGUF tensor, and its part of the model ("attn_q"); an unknown name is kept."""
        stem, _, kind = name.rpartition(".")
        if stem in MODEL_NAMES:
            return f"{MODEL_NAMES[stem]}.{kind}", stem
        prefix, _, part = stem.rpartition(".")
        if prefix.startswith("blk.") and part in self.layer_names:
            return f"model.layers.{prefix.removeprefix('blk.')}.{self.layer_names[part]}.{kind}", part
        return name, ""


LAYOUTS = {
    "llama": Layout("LlamaForCausalLM", LAYER_NAMES, paired_rows=True, rope_factors=True),
    "qwen2": Layout("Qwen2ForCausalLM", LAYER_NAMES),
    "qwen3": Layout("Qwen3ForCausalLM", LAYER_NAMES | HEAD_NORM_NAMES),
    "gemma3": Layout(
        "Gemma3ForCausalLM", LAYER_NAMES | HEAD_NORM_NAMES | SANDWICH_NORM_NAMES, norm_offset=1.0, windows=True
    ),
}
