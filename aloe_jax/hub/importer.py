"""Import of any supported model as a Hugging Face folder, checked tensor by tensor."""

from __future__ import annotations

from pathlib import Path

from aloe_jax.hub import config_file, folders, source, tensors
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.templated import templated
from aloe_jax.outputs import check_apart


def import_model(
    model: str,
    out: Path | str,
    dtype: str | None = None,
    overwrite: bool = False,
    max_shard_bytes: int = tensors.MAX_SHARD_BYTES,
    template: str = "",
) -> Path:
    """Write `model` (folder, `gs://`, hub id, GGUF file, `embedded:smollm2`) to `out` as a Hugging Face folder.

    `dtype` (float32, bfloat16, float16) is the stored type of the tensors; None keeps the source's types, with
    quantised GGUF tensors as float32, so that nothing is rounded. One tensor is in memory at a time, and files have at
    most `max_shard_bytes`. With `template` (a family of `templated`, or a file) the folder has that chat template. The
    folder is written atomically; returns `out`.

    Raises InputError for a source that is not a supported, complete model with a chat template and for an `out` with
    content unless `overwrite`, or that is, contains or lies in the source, and ResumableError for a failed write.
    """
    wanted = None if dtype is None else tensors.as_dtype(dtype)
    folders.check_new(Path(out), overwrite)
    check_apart(out, model)
    folder = source.resolve_model(model)
    check_apart(out, folder)
    folder = templated(folder, template)
    read_chat_model(folder)
    config, settings = config_file.read_config(folder)
    stored = tensors.checked(tensors.read_safetensors(folder), config, str(folder))
    with folders.new_folder(Path(out), overwrite) as partial:
        folders.copy_companions(folder, partial)
        config_file.write_config(partial, config, wanted or tensors.common_dtype(stored.values()), settings)
        tensors.write_safetensors(partial, stored, wanted, max_shard_bytes)
    return Path(out)
