"""Llama-3-8B-Instruct with the paper's settings; `aloe run --help` lists the arguments.
`aloe run --config=llama3_8b --workdir=runs/llama3_8b`"""

from ml_collections import ConfigDict

from aloe_jax.cli.experiment import model_experiment

SIZES = {  # from the config.json of the source
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
    return model_experiment(arg, "meta-llama/Meta-Llama-3-8B-Instruct", SIZES)
