"""Low-rank adapters: the model that a config asks for, and the parameters that a training ended with."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from aloe_jax.errors import InputError
from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.lora import LoraSettings
from aloe_jax.ops.precision import in_precision_of
from aloe_jax.run.manifest import read_manifest
from aloe_jax.run.model import model_config
from aloe_jax.run.progress import Line
from aloe_jax.run.stage import Run
from aloe_jax.settings import nearest, read


def with_adapters(model: ModelConfig, settings: LoraSettings) -> ModelConfig:
    """`model` with the adapters that `config.lora` describes; unchanged if `config.lora.maps` is empty. InputError for
    a pattern of which an alternative matches nothing, and for numbers out of range."""
    adapted = _with_adapters(model, settings)
    known = decoder.linear_maps(model)
    if settings.maps and (wrong := lora.unmatched(settings.maps, known)):
        raise InputError(
            f"config.lora.maps: '{wrong[0]}' in '{settings.maps}' matches no linear map, so less would be trained than "
            f"it says; there are {', '.join(known)}{nearest(wrong[0], known)}"
        )
    return adapted


def _with_adapters(model: ModelConfig, settings: LoraSettings) -> ModelConfig:
    """`model` with the adapters of an earlier version too, which took what one alternative alone matched."""
    if not settings.maps:
        return model
    numbers = settings.rank, settings.alpha, settings.dropout
    return dataclasses.replace(model, lora=lora.make_lora(settings.maps, *numbers, decoder.linear_maps(model)))


def trained_config(run: Run) -> ModelConfig:
    """The config of the start model of a run with the adapters that `config.lora` asks for."""
    return with_adapters(model_config(run), run.section("lora", LoraSettings))


@in_precision_of(jnp.float32)
def merged(frozen: decoder.Params, trained: decoder.Params, adapters: lora.Lora) -> decoder.Params:
    """The parameters `frozen` with the trained adapters merged into them, in f32."""
    return lora.merge(lora.join(frozen, trained), adapters)


def trained_params(
    model: ModelConfig, stage: epath.Path, mesh: Mesh, line: Line, step: int | None = None
) -> tuple[ModelConfig, decoder.Params]:
    """The model of the training in the folder `stage`, and its parameters at the checkpoint of a step (None: the
    newest): all of them, or the adapters alone."""
    from aloe_jax.train.checkpoints import restore_params  # loads Orbax

    stored = read_manifest(stage).section("lora")
    if stored:
        model = _with_adapters(model, read(LoraSettings, stored, "config.lora"))
    return model, restore_params(stage / "checkpoints", model, decoder.shardings(model, mesh), line, step)
