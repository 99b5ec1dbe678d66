"""Tiny random models of every family, to try an experiment without its weights: `random:llama`."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import folders
from aloe_jax.hub.exporter import export_model
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.families import FAMILIES

CONTEXT = 2048
PADDING = 128  # vocabulary sizes are multiples of it, so that they can be sharded


def random_model(family: str, tokenizer: epath.Path) -> Path:
    """The cached folder of the family's tiny model with the tokenizer and chat template of the folder `tokenizer`.

    Its weights have a fixed seed. Raises InputError for an unknown family.
    """
    if family not in FAMILIES:
        raise InputError(f"random model '{family}' is unknown; expected one of {', '.join(FAMILIES)}")
    folder = folders.cache_root() / "models" / f"random-{family}-v{folders.CONVERTER_VERSION}"
    if not folder.exists():
        vocabulary = files.read_json(tokenizer / folders.TOKENIZER)["model"]["vocab"]
        fields = FAMILIES[family].TINY | {
            "vocab_size": -(-len(vocabulary) // PADDING) * PADDING,
            "max_position_embeddings": CONTEXT,
        }
        export_random(FAMILIES[family].from_hf(fields), tokenizer, folder)
    return folder


def export_random(model: ModelConfig, tokenizer: epath.Path, folder: Path, seed: int = 0) -> None:
    """Write the Hugging Face folder of a model with random weights. Another process may do so at the same time."""
    params = jax.jit(functools.partial(decoder.init_params, model))(jax.random.key(seed))
    try:
        export_model(params, model, tokenizer, folder)
    except InputError:
        if not folder.exists():  # else another process was faster, with equal weights
            raise
