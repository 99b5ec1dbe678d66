"""A tiny chat model of the scripted world: everything is tried on it before a real model, in minutes on a CPU.

It is a Llama of about a million parameters with random weights, and a tokenizer of two thousand tokens, trained on
dialogues of the world's training personas with the oracle. It knows no English: what it can do after a training, it
has learned from that training's trees.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from aloe_jax import files
from aloe_jax.hub import config_file, folders
from aloe_jax.hub.random_model import export_random
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import play

VERSION = 1  # of the model and of the text behind its tokenizer
PERSONAS, TURNS = 400, 8  # of the dialogues that the tokenizer is trained on
VOCABULARY = 2048
CONTEXT = 2048
START, END = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIZES = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 384,
    "max_position_embeddings": CONTEXT,
    "rope_theta": 10_000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def twin_model(seed: int = 0) -> Path:
    """The cached Hugging Face folder of the tiny model whose weights are drawn with `seed`."""
    folder = folders.cache_root() / "models" / f"world-twin-{seed}-v{VERSION}.{folders.CONVERTER_VERSION}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory() as made:
        source = epath.Path(made)
        _write_companions(source)
        export_random(config_file.read_config(source)[0], source, folder, seed)
    return folder


def _write_companions(folder: epath.Path) -> None:
    """Config, tokenizer and chat template."""
    files.write_json(folder / config_file.CONFIG, SIZES)
    files.write_text(folder / folders.TOKENIZER, _tokenizer().to_str())
    files.write_json(
        folder / folders.TOKENIZER_CONFIG,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": END,
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": TEMPLATE,
        },
    )


def _tokenizer() -> Tokenizer:
    """A byte-level BPE of the world's words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _texts() -> Iterator[str]:
    for persona in scripted_personas("train", profiles=PERSONAS, personalities=40, seed=0, pairings=1):
        for message in play(persona, "oracle", TURNS)[0]:
            yield f"{message.role}\n{message.content}"
