"""Mistral-7B-Instruct-v0.3 with the paper's settings: AdamW at 1e-5, batches of 48, one epoch, beta 0.9, bfloat16.

    aloe run --config=configs/mistral_7b.py --workdir=runs/mistral_7b     # all stages
    aloe run --config=configs/mistral_7b.py:debug --workdir=runs/debug     # a tiny random model, on a CPU
    aloe plan --config=configs/mistral_7b.py:preference --stage=preference --topology=v5e:4x4

`:sft` ends with supervised fine-tuning, `:preference` with preference training, both with batches that fill 16 chips;
`:sft-paper` and `:preference-paper` are the same with the paper's batches, `:sft-mixed` and `:preference-mixed` with
those and with ordinary chats in SFT, as the paper has them, from `--config.dataset.sources.chat.path=chats.jsonl`.
"""

from ml_collections import ConfigDict

from aloe_jax.run import defaults

# From the config.json of the source.
SIZES = {
    "architectures": ["MistralForCausalLM"],
    "vocab_size": 32768,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-05,
    "sliding_window": None,
    "tie_word_embeddings": False,
}


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, "sft", "preference", either with "-paper" or "-mixed" behind it, or "debug"."""
    config = defaults.experiment()
    config.model.source = "mistralai/Mistral-7B-Instruct-v0.3"
    config.model.sizes = ConfigDict(SIZES)
    # Its template writes the system text into the last user message, which moves as the dialogue goes on.
    config.template.system = "fold_into_first_user"
    return defaults.finish(config, arg, debug_model="random:mistral")
