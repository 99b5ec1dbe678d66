"""OLMo-7B-0724-Instruct with the paper's settings; `aloe run --help` lists the arguments.
`aloe run --config=olmo_7b --workdir=runs/olmo_7b`"""

from ml_collections import ConfigDict

from aloe_jax.cli.experiment import model_experiment

SIZES = {  # from the config.json of the source
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
    return model_experiment(arg, "allenai/OLMo-7B-0724-Instruct-hf", SIZES)
