"""The identity of a model folder: a hash of all files in it that the model's output depends on."""

from __future__ import annotations

import functools

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub.byte_ranges import is_store

# All that a model is read from beside its weights; a file that is missing does not count.
DECIDING = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
)


@functools.cache
def model_hash(folder: epath.Path) -> str:
    """The hash of config, tokenizer, chat template and weights, computed once per process. Raises InputError without
    weights.

    Weights in an object store count by name, size and time of their last change, so that they are not fetched for it.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(f"model folder '{folder}' holds no .safetensors file")
    found = [folder / name for name in DECIDING if (folder / name).exists()]
    return files.sha256(*(part for path in [*found, *weights] for part in (path.name, _content(path))))


def _content(path: epath.Path) -> str:
    if not (is_store(path) and path.suffix == ".safetensors"):
        return files.hash_file(path)
    found = path.stat()
    return f"{found.length} bytes, changed at {found.mtime}"
