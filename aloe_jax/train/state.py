"""Parameters, optimiser state and step number, created where they live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel import sharding


class TrainState(NamedTuple):
    """All that a step reads and writes."""

    step: Int[Array, ""]
    params: decoder.Params  # what is trained: everything, or the adapters alone
    opt_state: Any
    frozen: decoder.Params  # what is not: empty, or all but the adapters; checkpoints leave it out


def split_params(params: decoder.Params, model: ModelConfig) -> tuple[decoder.Params, decoder.Params]:
    """(what is trained, what is frozen) of a parameter tree or of one that mirrors it."""
    return lora.split(params) if model.lora else (params, {})


def state_shardings(model: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The sharding of every leaf of the train state; the optimiser's moments lie as their parameter does."""
    abstract = decoder.abstract_params(model)
    params, frozen = split_params(decoder.shardings(model, mesh), model)
    whole = sharding.replicated(mesh)
    opt_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, place: place,
        jax.eval_shape(optimizer.init, split_params(abstract, model)[0]),
        params,
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, params, opt_state, frozen)


def create_state(
    params: decoder.Params, model: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int = 0
) -> TrainState:
    """The state at step 0 around `params`, which are moved to their sharding where they are not there yet. Adapters are
    drawn from `seed`, sharded from the start."""
    places = state_shardings(model, optimizer, mesh)
    frozen: decoder.Params = {}
    if model.lora:
        frozen = jax.device_put(params, places.frozen)
        drawn: Callable[[Array], decoder.Params] = lambda key: lora.split(decoder.init_params(model, key))[0]  # noqa: E731
        params = jax.jit(drawn, out_shardings=places.params)(jax.random.key(seed))
    else:
        params = jax.device_put(params, places.params)
    opt_state = jax.jit(optimizer.init, out_shardings=places.opt_state)(params)
    return TrainState(jax.device_put(jnp.zeros((), jnp.int32), places.step), params, opt_state, frozen)


def abstract_state(model: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state: what a checkpoint is restored against."""

    def init(params: decoder.Params) -> TrainState:
        trained, frozen = split_params(params, model)
        return TrainState(jnp.zeros((), jnp.int32), trained, optimizer.init(trained), frozen)

    abstract = jax.eval_shape(init, decoder.abstract_params(model))
    return sharding.placed(abstract, state_shardings(model, optimizer, mesh))
