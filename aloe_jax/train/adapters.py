"""Low-rank adapters of a run: the model that the config asks for, and the parameters that its trainings ended with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
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
from aloe_jax.run.progress import Line, quiet
from aloe_jax.run.stage import Run
from aloe_jax.settings import read
from aloe_jax.train.names import CHAIN


def with_adapters(model: ModelConfig, settings: LoraSettings) -> ModelConfig:
    """`model` with the adapters that `config.lora` describes; unchanged if `config.lora.maps` is empty. InputError for
    a pattern that matches nothing and for numbers out of range."""
    if not settings.maps:
        return model
    numbers = settings.rank, settings.alpha, settings.dropout
    return dataclasses.replace(model, lora=lora.make_lora(settings.maps, *numbers, decoder.linear_maps(model)))


def trained_config(run: Run) -> ModelConfig:
    """The config of the start model of a run with the adapters that `config.lora` asks for."""
    return with_adapters(model_config(run), run.section("lora", LoraSettings))


def _trained(model: ModelConfig, stage: epath.Path, mesh: Mesh, line: Line) -> tuple[ModelConfig, decoder.Params]:
    """The model of the training in the folder `stage`, and its final parameters: all of them, or the adapters alone."""
    from aloe_jax.train.checkpoints import restore_params  # loads Orbax

    stored = read_manifest(stage).section("lora")
    if stored:
        model = with_adapters(model, read(LoraSettings, stored, "config.lora"))
    return model, restore_params(stage / "checkpoints", model, decoder.shardings(model, mesh), line)


def merged_params(
    model: ModelConfig,
    stage: epath.Path,
    base: Callable[[decoder.Params], decoder.Params],
    mesh: Mesh,
    line: Line = quiet,
) -> decoder.Params:
    """The final parameters of the training in the folder `stage` of a run, f32, its adapters merged into the weights
    they were trained on. `base(shardings)` loads the start model of the run and is called only if needed."""
    trained_model, trained = _trained(model, stage, mesh, line)
    if not trained_model.lora:
        return trained
    before = CHAIN[: CHAIN.index(stage.name)]
    if before:
        start = merged_params(model, stage.parent / before[-1], base, mesh, line)
    else:
        start = base(decoder.shardings(model, mesh))
    places = jax.tree.map(lambda leaf: leaf.sharding, start)
    exact = in_precision_of(jnp.float32)(lora.merge)
    merge = jax.jit(exact, static_argnums=1, donate_argnums=0, out_shardings=places)
    return merge(lora.join(start, trained), trained_model.lora)


def joint_adapter(
    model: ModelConfig, stage: epath.Path, mesh: Mesh, line: Line = quiet
) -> tuple[ModelConfig, decoder.Params]:
    """The model with one adapter that stands for all trainings up to `stage`, and that adapter's parameters.

    The adapters of two trainings are concatenated along the rank, which computes the sum of both. Raises InputError if
    a training up to `stage` trained all weights: then no adapter leads from the start model to its result.
    """
    names = CHAIN[: CHAIN.index(stage.name) + 1]
    found = [_trained(model, stage.parent / name, mesh, line) for name in names]
    for name, (trained_model, _) in zip(names, found, strict=True):
        if not trained_model.lora:
            raise InputError(
                f"'{stage.parent / name}' trained all weights (config.lora.maps is empty), so there is no adapter to "
                "export; export the merged model"
            )
    last = found[-1][0].lora
    assert last
    if any(trained_model.lora != last for trained_model, _ in found):
        raise InputError(f"the trainings up to '{stage}' have different adapters; export the merged model")
    # x A1 B1 + x A2 B2 = x [A1 A2] [B1; B2]: A grows along its last axis, B along the first one after the layers.
    joined = jax.tree.map_with_path(
        lambda path, *parts: jax.numpy.concatenate(parts, axis=-1 if path[-1].key.endswith(lora.A) else len(path) - 1),
        *(params for _, params in found),
    )
    count = len(found)
    grown = dataclasses.replace(last, rank=last.rank * count, alpha=last.alpha * count)
    return dataclasses.replace(model, lora=grown), joined
