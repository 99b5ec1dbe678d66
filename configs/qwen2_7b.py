"""Qwen2-7B-Instruct with the paper's settings; `aloe run --help` lists the arguments.
`aloe run --config=qwen2_7b --workdir=runs/qwen2_7b`"""

from ml_collections import ConfigDict

from aloe_jax.cli.experiment import model_experiment

SIZES = {  # from the config.json of the source
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
    return model_experiment(arg, "Qwen/Qwen2-7B-Instruct", SIZES)
