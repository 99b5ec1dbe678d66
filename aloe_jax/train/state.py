"""Parameters, optimiser state and step number, created where they live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from aloe_jax.errors import InputError
from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel import sharding

SCHEDULES = ("constant", "linear", "cosine")  # what follows the warm-up
# key -> (whether a value will do, what is expected): beyond that a training does nothing, climbs or diverges
BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": (lambda value: value > 0, "above 0"),
    "warmup": (
        lambda value: 0 <= value < 1,
        "at least 0 and below 1: it is a share of the steps, so divide a number of steps by theirs",
    ),
    "clip_norm": (lambda value: value > 0, "above 0; a large one, such as 1e9, clips nothing"),
    "b1": (lambda value: 0 <= value < 1, "at least 0 and below 1, such as 0.9"),
    "b2": (lambda value: 0 <= value < 1, "at least 0 and below 1, such as 0.95"),
    "weight_decay": (lambda value: value >= 0, "at least 0; 0 decays nothing"),
}


class TrainState(NamedTuple):
    """All that a step reads and writes."""

    step: Int[Array, ""]
    params: decoder.Params  # what is trained: everything, or the adapters alone
    opt_state: Any
    frozen: decoder.Params  # what is not: empty, or all but the adapters; checkpoints leave it out


def split_params(params: decoder.Params, model: ModelConfig) -> tuple[decoder.Params, decoder.Params]:
    """(what is trained, what is frozen) of a parameter tree or of one that mirrors it."""
    return lora.split(params) if model.lora else (params, {})


def check_optimizer(config: Mapping[str, Any], section: str) -> None:
    """InputError naming the first key of `config.SECTION` that nothing can be trained with."""
    for name, (holds, expected) in BOUNDS.items():
        if not holds(config[name]):
            raise InputError(f"config.{section}.{name}: {config[name]} must be {expected}")
    if config["schedule"] not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise InputError(f"config.{section}.schedule: '{config['schedule']}' is unknown; choose one of {known}")


def learning_rate(config: Mapping[str, Any], steps: int) -> optax.Schedule:
    """Linear warm-up over `warmup` (share of the steps), then linear or cosine decay to zero, or constant."""
    peak, warmup = config["learning_rate"], max(0, round(config["warmup"] * steps))
    rest = max(1, steps - warmup)
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
    }[config["schedule"]]
    return optax.join_schedules([optax.linear_schedule(peak / (warmup + 1), peak, warmup), after], [warmup])


def make_optimizer(config: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """AdamW after clipping by the global norm (arXiv 1711.05101)."""
    return optax.chain(
        optax.clip_by_global_norm(config["clip_norm"]),
        optax.adamw(
            learning_rate(config, steps),
            b1=config["b1"],
            b2=config["b2"],
            weight_decay=config["weight_decay"],
        ),
    )


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
