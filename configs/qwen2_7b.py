"""Qwen2-7B-Instruct with the paper's settings: AdamW at 1e-5, batches of 48, one epoch, beta 0.9, bfloat16.

    aloe run --config=configs/qwen2_7b.py --workdir=runs/qwen2_7b     # all stages
    aloe run --config=configs/qwen2_7b.py:debug --workdir=runs/debug     # a tiny random model, on a CPU
    aloe plan --config=configs/qwen2_7b.py:preference --stage=preference --topology=v5e:4x4

`:sft` ends with supervised fine-tuning, `:preference` with preference training, both with batches that fill 16 chips;
`:sft-paper` and `:preference-paper` are the same with the paper's batches, `:sft-mixed` and `:preference-mixed` with
those and with ordinary chats in SFT, as the paper has them, from `--config.dataset.sources.chat.path=chats.jsonl`.
"""

from ml_collections import ConfigDict

from aloe_jax.run import defaults

# From the config.json of the source.
SIZES = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 152064,
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
}


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, "sft", "preference", either with "-paper" or "-mixed" behind it, or "debug"."""
    config = defaults.experiment()
    config.model.source = "Qwen/Qwen2-7B-Instruct"
    config.model.sizes = ConfigDict(SIZES)
    return defaults.finish(config, arg, debug_model="random:qwen2")
