"""Export of adapters as a folder that `peft` loads beside their base model."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.hub import families, folders
from aloe_jax.hub.card import CARD_FILE, ModelCard
from aloe_jax.hub.safetensors_file import Tensor, write_file
from aloe_jax.models.config import ModelConfig, Weight
from aloe_jax.models.lora import A, B
from aloe_jax.models.params import Params, get_leaf

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft's, before the names of the base model's modules


def export_adapter(
    adapters: Params,
    config: ModelConfig,
    base: str,
    folder: epath.Path,
    out: Path | str,
    card: ModelCard | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the `adapters` of `config.lora` to `out` as a PEFT folder, f32; returns `out`.

    `base` is the folder or hub id of the model that they were trained on. Tokenizer, chat template and the ends of
    generation are those of `folder`, which trained them: the base model may have others, or none. Raises InputError for
    an `out` with content unless `overwrite`, and ResumableError for a failed write.
    """
    assert config.lora, "a model without adapters has none to export"
    tensors: dict[str, Tensor] = {}
    modules: list[str] = []
    for weight in families.weights(config):
        *place, name = weight.path
        if name not in config.lora.maps:
            continue
        found = get_leaf(adapters, place)
        modules.append(weight.name.removesuffix(".weight").rpartition(".")[2])
        tensors |= _tensors(weight, config, np.asarray(found[name + A]), np.asarray(found[name + B]))
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.lora.rank,
        "lora_alpha": config.lora.alpha,
        "lora_dropout": config.lora.dropout,
        "target_modules": modules,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    with folders.new_folder(Path(out), overwrite) as partial:
        files.write_json(partial / CONFIG, settings)
        write_file(partial / WEIGHTS, tensors, dtype=None)
        folders.copy_companions(folder, partial, folders.CONVERSING)
        if card is not None:
            files.write_text(partial / CARD_FILE, card.text())
    return Path(out)


def _tensors(weight: Weight, config: ModelConfig, a: np.ndarray, b: np.ndarray) -> dict[str, Tensor]:
    """The tensors of one map by PEFT's names: A [rank, in] and B [out, rank], one pair per layer."""
    if weight.path[0] != "layers":
        a, b = a[None], b[None]
    assert config.lora
    rank = config.lora.rank
    result = {}
    for layer, name in enumerate(families.tensor_names(weight, config)):
        module = PREFIX + name.removesuffix(".weight")
        for part, array in (("A", a[layer].reshape(-1, rank).T), ("B", b[layer].reshape(rank, -1).T)):
            read = functools.partial(np.array, array)
            result[f"{module}.lora_{part}.weight"] = Tensor(array.shape, array.dtype, read)
    return result
