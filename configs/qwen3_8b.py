"""Qwen3-8B, a model of today, with the paper's settings: AdamW at 1e-5, batches of 48, one epoch, beta 0.9, bfloat16.

    aloe run --config=configs/qwen3_8b.py --workdir=runs/qwen3_8b     # all stages
    aloe run --config=configs/qwen3_8b.py:debug --workdir=runs/debug     # a tiny random model, on a CPU
    aloe plan --config=configs/qwen3_8b.py:preference --stage=preference --topology=v5e:4x4

`:sft` ends with supervised fine-tuning, `:preference` with preference training, both with batches that fill 16 chips;
`:sft-paper` and `:preference-paper` are the same with the paper's batches, `:sft-mixed` and `:preference-mixed` with
those and with ordinary chats in SFT, as the paper has them, from `--config.dataset.sources.chat.path=chats.jsonl`.
"""

from ml_collections import ConfigDict

from aloe_jax.run import defaults

# From the config.json of the source.
SIZES = {
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 151936,
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
    "use_sliding_window": False,
    "attention_bias": False,
    "tie_word_embeddings": False,
}


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, "sft", "preference", either with "-paper" or "-mixed" behind it, or "debug"."""
    config = defaults.experiment()
    config.model.source = "Qwen/Qwen3-8B"
    config.model.sizes = ConfigDict(SIZES)
    return defaults.finish(config, arg, debug_model="random:qwen3")
