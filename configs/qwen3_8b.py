"""Qwen3-8B with the paper's settings; `aloe run --help` lists the arguments.
`aloe run --config=qwen3_8b --workdir=runs/qwen3_8b`"""

from ml_collections import ConfigDict

from aloe_jax.cli.experiment import model_experiment

SIZES = {  # from the config.json of the source
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
    "tie_word_embeddings": False,
}


def get_config(arg: str = "") -> ConfigDict:
    return model_experiment(arg, "Qwen/Qwen3-8B", SIZES)
