"""A GGUF file to a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from aloe_jax.hub import config_file, families, tensors
from aloe_jax.hub.gguf import config as gguf_config
from aloe_jax.hub.gguf import tokenizer as gguf_tokenizer
from aloe_jax.hub.gguf.file import GGUFFile


def convert_gguf(path: Path, out: Path) -> None:
    """Fill the folder `out` from a GGUF file; quantised tensors become float32, others keep their type.

    Raises InputError where the file is not a complete, supported model with a chat template.
    """
    gguf = GGUFFile(path)
    config = families.model_config(gguf_config.hf_config(gguf), str(path))
    stored = tensors.checked(gguf.tensors(), config, str(path))
    gguf_tokenizer.write_tokenizer(gguf, out)
    config_file.write_config(out, config, tensors.common_dtype(stored.values()), gguf_tokenizer.token_ids(gguf))
    tensors.write_safetensors(out, stored, dtype=None)
