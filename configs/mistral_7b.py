"""Mistral-7B-Instruct-v0.3 with the paper's settings; `aloe run --help` lists the arguments.
`aloe run --config=mistral_7b --workdir=runs/mistral_7b`"""

from ml_collections import ConfigDict

from aloe_jax.cli.experiment import model_experiment

SIZES = {  # from the config.json of the source
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
    return model_experiment(arg, "mistralai/Mistral-7B-Instruct-v0.3", SIZES, system="fold_into_first_user")
