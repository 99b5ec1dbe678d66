"""Export of parameters as a Hugging Face folder that other libraries open."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from aloe_jax import files
from aloe_jax.hub import config_file, families, folders, tensors
from aloe_jax.hub.card import CARD_FILE, ModelCard
from aloe_jax.hub.safetensors_file import Tensor
from aloe_jax.models.config import ModelConfig, Weight
from aloe_jax.models.params import Params, get_leaf


def export_model(
    params: Params,
    config: ModelConfig,
    tokenizer_folder: epath.PathLike,
    out: Path | str,
    dtype: str | None = None,
    card: ModelCard | None = None,
    overwrite: bool = False,
    max_shard_bytes: int = tensors.MAX_SHARD_BYTES,
    dtypes: Mapping[str, np.dtype] | None = None,
) -> Path:
    """Write `params` to `out` as a Hugging Face folder; returns `out`.

    Tokenizer files, chat template, generation config and token ids come from `tokenizer_folder`. `dtype` None keeps the
    type of the parameters, or the one in `dtypes` by a tensor's name. One tensor at a time is in this host's memory,
    and files have at most `max_shard_bytes`. Without a `card` the README.md of `tokenizer_folder` is kept. Parameters
    that are sharded over several processes are gathered: all of these must call this, and the primary one writes.

    Raises InputError for a tokenizer folder that lacks files of an instruct model and for an `out` with content unless
    `overwrite`, and ResumableError for a failed write.
    """
    wanted = None if dtype is None else tensors.as_dtype(dtype)
    folders.check_new(Path(out), overwrite)
    source = epath.Path(tokenizer_folder)
    folders.checked_tokenizer(source)
    settings = files.read_json(source / config_file.CONFIG)
    stored = _tensors(params, config, dtypes or {})
    gathered = not all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(params))
    if gathered and jax.process_index() > 0:
        for tensor in tensors.in_file_order(stored, wanted).values():
            tensor.read()  # a collective
        return Path(out)
    with folders.new_folder(Path(out), overwrite) as partial:
        folders.copy_companions(source, partial)
        if card is not None:
            files.write_text(partial / CARD_FILE, card.text())
        config_file.write_config(partial, config, wanted or tensors.common_dtype(stored.values()), settings)
        tensors.write_safetensors(partial, stored, wanted, max_shard_bytes)
    return Path(out)


def _tensors(params: Params, config: ModelConfig, dtypes: Mapping[str, np.dtype]) -> dict[str, Tensor]:
    """The parameters as Hugging Face tensors; reading one fetches one layer."""
    result: dict[str, Tensor] = {}
    for _, parts in itertools.groupby(families.weights(config), key=lambda weight: weight.name):
        weights = list(parts)
        leaves = [get_leaf(params, weight.path) for weight in weights]
        dtype = np.dtype(leaves[0].dtype)
        for layer, name in enumerate(families.tensor_names(weights[0], config)):
            number = layer if weights[0].path[0] == "layers" else None
            reads = [_fetch(leaf, number, weight) for leaf, weight in zip(leaves, weights, strict=True)]
            read = reads[0] if len(reads) == 1 else functools.partial(_joined, reads)
            result[name] = Tensor(weights[0].shape, dtypes.get(name, dtype), read)
    return result


def _joined(reads: Sequence[Callable[[], np.ndarray]]) -> np.ndarray:
    """One tensor of the rows of several parameters."""
    return np.concatenate([read() for read in reads])


def _fetch(leaf: Any, layer: int | None, weight: Weight) -> Callable[[], np.ndarray]:
    """A function that fetches one tensor to this host in Hugging Face's layout."""

    def read() -> np.ndarray:
        value = leaf if layer is None else leaf[layer]
        if isinstance(value, jax.Array) and not value.is_fully_addressable:
            value = multihost_utils.process_allgather(value, tiled=True)
        return weight.to_hf(np.asarray(value))

    return read
