"""What identifies a model folder: a hash of everything in it that decides what the model says."""

from __future__ import annotations

import functools
from pathlib import Path

from aloe_jax import files
from aloe_jax.errors import InputError

DECIDING = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@functools.cache
def model_hash(folder: Path) -> str:
    """Hash over config, tokenizer, chat template and weights; read once a process. InputError without weights."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(f"model folder '{folder}' holds no .safetensors file")
    found = [folder / name for name in DECIDING if (folder / name).exists()]
    return files.sha256(*(part for path in [*found, *weights] for part in (path.name, files.hash_file(path))))
