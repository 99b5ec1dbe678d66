"""The train state: parameters, optimiser state and step number, each created in its sharding."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel import sharding


class TrainState(NamedTuple):
    """Everything that a step reads and writes."""

    step: Int[Array, ""]
    params: decoder.Params  # the trained parameters: all of them, or the adapters alone
    opt_state: optax.OptState
    frozen: decoder.Params  # the others: none, or all but the adapters; not stored in checkpoints


def split_params(params: decoder.Params, model: ModelConfig) -> tuple[decoder.Params, decoder.Params]:
    """(trained, frozen) parts of a parameter tree, or of a tree of the same structure."""
    return lora.split(params) if model.lora else (params, {})


def state_shardings(model: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The sharding of every leaf of the train state; the optimiser's moments are sharded like their parameter."""
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
    """The state at step 0 with `params`, which are moved to their sharding if necessary. Adapters are drawn from
    `seed`, sharded from the start."""
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
    """Shapes, dtypes and shardings of the state, against which a checkpoint is restored."""

    def init(params: decoder.Params) -> TrainState:
        trained, frozen = split_params(params, model)
        return TrainState(jnp.zeros((), jnp.int32), trained, optimizer.init(trained), frozen)

    abstract = jax.eval_shape(init, decoder.abstract_params(model))
    return sharding.placed(abstract, state_shardings(model, optimizer, mesh))
