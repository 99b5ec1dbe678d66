"""Conversion of a GGUF file to a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from aloe_jax.hub import config_file, families, tensors
from aloe_jax.hub.gguf.config import hf_config
from aloe_jax.hub.gguf.file import GGUFFile
from aloe_jax.hub.gguf.tokenizer import token_ids, write_tokenizer


def convert_gguf(path: Path, out: Path) -> None:
    """Fill the folder `out` from a GGUF file; quantised tensors become float32, others keep their type.

    Raises InputError if the file is not a complete, supported model with a chat template.
    """
    source = GGUFFile(path)
    source.check_layers()
    config = families.model_config(hf_config(source), str(path))
    stored = tensors.checked(source.tensors(), config, str(path))
    write_tokenizer(source, out)
    config_file.write_config(out, config, tensors.common_dtype(stored.values()), token_ids(source))
    tensors.write_safetensors(out, stored, dtype=None)
