"""A tiny chat model of the scripted world: everything is tried on it before a real model, in minutes on a CPU.

It is a Llama of half a million parameters with a tokenizer of a thousand tokens. As a model of any size does before it
is aligned, it speaks and takes words from the context, but in no user's style: `twin_model` is the result of a training
on `base_text`, whose weights are part of the package. These commands make them again, in minutes:

    uv run aloe run --config=configs/world.py:twin_base --workdir=runs/twin_base
    uv run aloe export runs/twin_base/sft --out=data_gen/world/twin_model --dtype=float16 --overwrite
    rm data_gen/world/twin_model/README.md
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import config_file, folders
from aloe_jax.hub.exporter import export_model
from aloe_jax.tree.schema import write_records
from data_gen.world.base_text import base_dialogues
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import play
from data_gen.world.twin_start import start_params

VERSION = 3  # of the random model, of the text behind its tokenizer and of the text that it learns to speak from
PERSONAS, TURNS = 150, 6  # of the dialogues that the tokenizer is trained on
DIALOGUES, BASE_TURNS, REPLIES = 2400, 2, 4  # of the base text, replies per turn
VOCABULARY = 1024
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
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 256,
    "max_position_embeddings": CONTEXT,
    "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-5,
    "attention_bias": True,  # a head that looks at the token before needs no content
    "tie_word_embeddings": True,
}


def twin_model() -> Path:
    """The Hugging Face folder of the tiny model that speaks."""
    return Path(__file__).parent / "twin_model"


def random_twin(seed: int = 0) -> Path:
    """The cached Hugging Face folder of the same model with random weights, drawn with `seed`."""
    folder = folders.cache_root() / "models" / f"world-twin-{seed}-v{VERSION}.{folders.CONVERTER_VERSION}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory() as made:
        source = epath.Path(made)
        _write_companions(source)
        model = config_file.read_config(source)[0]
        try:
            export_model(start_params(model, seed), model, source, folder)
        except InputError:
            if not folder.exists():  # else another process was faster, with equal weights
                raise
    return folder


def base_trees(seed: int = 0) -> Path:
    """The cached trees.jsonl of the text that it learns to speak from."""
    path = folders.cache_root() / "trees" / f"world-base-{seed}-v{VERSION}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_records(epath.Path(path), base_dialogues(DIALOGUES, BASE_TURNS, REPLIES, seed))
    return path


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
