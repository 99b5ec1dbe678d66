"""Model folders without weights, with the template fixtures."""

import json

import pytest

from helpers.tree_samples import FIXTURES

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 408,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "eos_token_id": 2,
}


@pytest.fixture
def folder(tmp_path):
    """A function from a template's name to a model folder that has it."""

    def make(template):
        path = tmp_path / template
        path.mkdir()
        for file in (FIXTURES / "tokenizer").iterdir():
            (path / file.name).write_text(file.read_text())
        (path / "chat_template.jinja").write_text((FIXTURES / "templates" / f"{template}.jinja").read_text())
        (path / "config.json").write_text(json.dumps(CONFIG))
        return path

    return make
