"""Llama-3-8B-Instruct with the paper's settings: AdamW at 1e-5, batches of 48, one epoch, beta 0.9, bfloat16.

    aloe run --config=configs/llama3_8b.py --workdir=runs/llama3_8b     # all stages
    aloe run --config=configs/llama3_8b.py:debug --workdir=runs/debug     # a tiny random model, on a CPU
    aloe plan --config=configs/llama3_8b.py:preference --stage=preference --topology=v5e:4x4

`:sft` ends with supervised fine-tuning, `:preference` with preference training, both with batches that fill 16 chips;
`:sft-paper` and `:preference-paper` are the same with the paper's batches, `:sft-mixed` and `:preference-mixed` with
those and with ordinary chats in SFT, as the paper has them, from `--config.dataset.sources.chat.path=chats.jsonl`.
"""

from ml_collections import ConfigDict

from aloe_jax.run import defaults

# From the config.json of the source.
SIZES = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
}


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, "sft", "preference", either with "-paper" or "-mixed" behind it, or "debug"."""
    config = defaults.experiment()
    config.model.source = "meta-llama/Meta-Llama-3-8B-Instruct"
    config.model.sizes = ConfigDict(SIZES)
    return defaults.finish(config, arg, debug_model="random:llama")
