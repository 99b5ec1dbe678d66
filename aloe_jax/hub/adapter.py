"""Export of adapters as a folder that `peft` loads beside their base model."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.hub import families, folders
from aloe_jax.hub.card import CARD_FILE, ModelCard
from aloe_jax.hub.safetensors_file import Tensor, write_file
from aloe_jax.models.config import LINEAR, ModelConfig, Weight
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
    ranks: dict[str, int] = {}  # by module
    for tensor, entries in itertools.groupby(families.weights(config), key=lambda weight: weight.name):
        parts = list(entries)
        adapted = sum(weight.path[-1] in config.lora.maps for weight in parts)
        if adapted:
            ranks[tensor.removesuffix(".weight").rpartition(".")[2]] = config.lora.rank * adapted
            tensors |= _tensors(parts, config, adapters)
    other = {module: rank for module, rank in ranks.items() if rank != config.lora.rank}
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.lora.rank,
        "lora_alpha": config.lora.alpha,
        "lora_dropout": config.lora.dropout,
        "target_modules": list(ranks),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    if other:  # alpha / rank is the scale
        settings["rank_pattern"] = other
        settings["alpha_pattern"] = {module: config.lora.scale * rank for module, rank in other.items()}
    with folders.new_folder(Path(out), overwrite) as partial:
        files.write_json(partial / CONFIG, settings)
        write_file(partial / WEIGHTS, tensors, dtype=None)
        folders.copy_companions(folder, partial, folders.CONVERSING)
        if card is not None:
            files.write_text(partial / CARD_FILE, card.text())
    return Path(out)


def _tensors(parts: Sequence[Weight], config: ModelConfig, adapters: Params) -> dict[str, Tensor]:
    """The tensors of one module by PEFT's names: A [rank, in] and B [out, rank], one pair per layer.

    `parts` are the maps in the tensor of the module. For two: [x A1 B1, x A2 B2] = x [A1 A2] [[B1, 0], [0, B2]]. The
    ranks add up, and rows of a map without an adapter are 0.
    """
    assert config.lora
    rank, pairs, before, out = config.lora.rank, [], 0, parts[0].shape[0]
    for weight in parts:
        *place, name = weight.path
        rows = out if len(parts) == 1 else math.prod(config.shape(LINEAR[name][1]))
        if name in config.lora.maps:
            found = get_leaf(adapters, place)
            a, b = (np.asarray(found[name + end]) for end in (A, B))
            pairs.append((before, before + rows, *((a, b) if parts[0].path[0] == "layers" else (a[None], b[None]))))
        before += rows
    result = {}
    for layer, name in enumerate(families.tensor_names(parts[0], config)):
        down = np.concatenate([a[layer].reshape(-1, rank).T for _, _, a, _ in pairs])
        up = np.zeros((out, rank * len(pairs)), down.dtype)
        for number, (begin, end, _, b) in enumerate(pairs):
            up[begin:end, number * rank : (number + 1) * rank] = b[layer].reshape(rank, -1).T
        module = PREFIX + name.removesuffix(".weight")
        for part, array in (("A", down), ("B", up)):
            read = functools.partial(np.array, array)
            result[f"{module}.lora_{part}.weight"] = Tensor(array.shape, array.dtype, read)
    return result
