"""OLMo-7B-0724-Instruct with the paper's settings: AdamW at 1e-5, batches of 48, one epoch, beta 0.9, bfloat16.

    aloe run --config=configs/olmo_7b.py --workdir=runs/olmo_7b     # all stages
    aloe run --config=configs/olmo_7b.py:debug --workdir=runs/debug     # a tiny random model, on a CPU
    aloe plan --config=configs/olmo_7b.py:preference --stage=preference --topology=v5e:4x4

`:sft` ends with supervised fine-tuning, `:preference` with preference training, both with batches that fill 16 chips;
`:sft-paper` and `:preference-paper` are the same with the paper's batches, `:sft-mixed` and `:preference-mixed` with
those and with ordinary chats in SFT, as the paper has them, from `--config.dataset.sources.chat.path=chats.jsonl`.
"""

from ml_collections import ConfigDict

from aloe_jax.run import defaults

# From the config.json of the source.
SIZES = {
    "architectures": ["OlmoForCausalLM"],
    "vocab_size": 50304,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "clip_qkv": 8.0,
    "tie_word_embeddings": False,
}


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, "sft", "preference", either with "-paper" or "-mixed" behind it, or "debug"."""
    config = defaults.experiment()
    config.model.source = "allenai/OLMo-7B-0724-Instruct-hf"
    config.model.sizes = ConfigDict(SIZES)
    config.dataset.max_path = 4096  # its context; rows of several conversations may be longer
    return defaults.finish(config, arg, debug_model="random:olmo")
