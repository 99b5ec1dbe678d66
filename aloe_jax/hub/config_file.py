"""Reads and writes the `config.json` of a model folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.hub import families, folders, tensors
from aloe_jax.models.config import HfConfig, ModelConfig

CONFIG = "config.json"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_config(folder: epath.PathLike) -> tuple[ModelConfig, HfConfig]:
    """The ModelConfig of a Hugging Face folder, and the content of its config.json.

    A model that config.json calls tied counts as untied if the folder stores another output head.

    Raises InputError if the file is missing or broken, or describes a model that is not supported, and for a folder
    with adapters or quantised weights.
    """
    path = epath.Path(folder) / CONFIG
    folders.refuse_adapter(epath.Path(folder))
    if not path.exists() and (snapshots := folders.hub_snapshots(epath.Path(folder))):
        raise InputError(f"{folder} is an entry of the hub's cache; name the model's folder in it: {snapshots[-1]}")
    settings = files.read_object(path)
    if method := settings.get("quantization_config"):
        kind = method.get("quant_method", "") if isinstance(method, dict) else method
        raise InputError(
            f"{path}: quantization_config says that the weights are quantised ({str(kind)[:40]}), which are not read; "
            "use the model that they were made from"
        )
    config = families.model_config(settings, str(folder))
    if config.tied and tensors.untied(folder):
        config = dataclasses.replace(config, tied=False)
    return config, settings


def write_config(out: Path, config: ModelConfig, dtype: np.dtype, token_ids: Mapping[str, object]) -> None:
    """Write config.json: the architecture, the stored type, and the special token ids in `token_ids`."""
    ids = {key: token_ids[key] for key in TOKEN_IDS if token_ids.get(key) is not None}
    files.write_json(out / CONFIG, families.hf_config(config, dtype.name) | ids)
