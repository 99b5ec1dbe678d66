"""One adapter in place of the adapters of several trainings, for `aloe export --adapter`."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from aloe_jax.errors import InputError
from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.run.progress import Line, quiet
from aloe_jax.train.adapters import trained_params
from aloe_jax.train.sources import trainings


def joint_adapter(
    model: ModelConfig, stage: epath.Path, mesh: Mesh, line: Line = quiet, step: int | None = None
) -> tuple[ModelConfig, decoder.Params]:
    """The model with one adapter that stands for all trainings up to `stage`, and that adapter's parameters.
    `step` is the checkpoint of the last training (None: the newest).

    The adapters of two trainings are concatenated along the rank, which computes the sum of both. Raises InputError if
    a training up to `stage` trained all weights: then no adapter leads from the start model to its result.
    """
    folders = trainings(stage)
    steps = [*(None for _ in folders[:-1]), step]
    found = [trained_params(model, folder, mesh, line, at) for folder, at in zip(folders, steps, strict=True)]
    for folder, (trained_model, _) in zip(folders, found, strict=True):
        if not trained_model.lora:
            raise InputError(
                f"'{folder}' trained all weights (config.lora.maps is empty), so there is no adapter to export; export "
                "the merged model"
            )
    last = found[-1][0].lora
    assert last
    if any(trained_model.lora != last for trained_model, _ in found):
        raise InputError(f"the trainings up to '{stage}' have different adapters; export the merged model")
    # x A1 B1 + x A2 B2 = x [A1 A2] [B1; B2]: A grows along its last axis, B along the first one after the layers.
    joined = jax.tree.map_with_path(
        lambda path, *parts: jnp.concatenate(parts, axis=-1 if path[-1].key.endswith(lora.A) else len(path) - 1),
        *(params for _, params in found),
    )
    count = len(found)
    grown = dataclasses.replace(last, rank=last.rank * count, alpha=last.alpha * count)
    return dataclasses.replace(model, lora=grown), joined
