"""One optimiser step over a global batch of rows, in micro-batches whose sums equal those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from aloe_jax.models import decoder, lora
from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.precision import in_precision_of
from aloe_jax.train.forward import DTYPES, Compute, gather_replies, reply_log_probs
from aloe_jax.train.objectives import is_maximum, objective_of
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.state import TrainState
from aloe_jax.tree.row import TreeRow

Sums = dict[str, tuple[Array, Array]]  # name of the loss or metric -> (sum, weight)
# (trained parameters, frozen ones, rows, used, random key of dropout or None) -> (sums, gradient)
Gradient = Callable[[decoder.Params, decoder.Params, TreeRow, Array, Array | None], tuple[Sums, decoder.Params]]
Step = Callable[[TrainState, TreeRow, Array], tuple[TrainState, dict[str, Array]]]
# (trained parameters, frozen ones, rows, used) -> sums
Evaluate = Callable[[decoder.Params, decoder.Params, TreeRow, Array], Sums]
# (trained parameters, frozen ones, one micro-batch, random key of dropout or None) -> (loss sum, all sums)
_Loss = Callable[[decoder.Params, decoder.Params, TreeRow, Array | None], tuple[Array, Sums]]


def _make_loss(model: ModelConfig, settings: ObjectiveSettings, compute: Compute, mesh: Mesh | None) -> _Loss:
    def loss(
        params: decoder.Params, frozen: decoder.Params, rows: TreeRow, key: Array | None
    ) -> tuple[Float[Array, ""], Sums]:
        both = lora.join(frozen, params)
        scores = reply_log_probs(both, model, rows, compute, mesh, key, settings.entropy)
        total, weight, metrics = objective_of(settings)(*gather_replies(scores, rows), settings)
        return total, {"loss": (total, weight), **metrics}

    return loss


def make_gradient(
    model: ModelConfig,
    settings: ObjectiveSettings,
    compute: Compute,
    mesh: Mesh | None = None,
) -> Gradient:
    """A function (trained params, frozen params, rows [N, B, ...], used, key) -> ((sum, weight) of the loss and of each
    metric, gradient of the mean loss by the trained params), over the first `used` of the N micro-batches. The others
    are not computed. `key` is the random key of the adapters' dropout; None drops nothing."""
    loss = _make_loss(model, settings, compute, mesh)

    @in_precision_of(DTYPES[compute.dtype])
    def gradient(
        params: decoder.Params,
        frozen: decoder.Params,
        rows: TreeRow,
        used: Int[Array, ""],
        key: Array | None = None,
    ) -> tuple[Sums, decoder.Params]:
        def add(number: Array, state: tuple[Sums, decoder.Params]) -> tuple[Sums, decoder.Params]:
            micro = jax.tree.map(lambda leaf: leaf[number], rows)
            drop = None if key is None else jax.random.fold_in(key, number)
            (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(params, frozen, micro, drop)
            return _together(state[0], sums), jax.tree.map(jnp.add, state[1], grads)

        first = jax.tree.map(lambda leaf: leaf[0], rows)
        if rows.tokens.shape[0] == 1:  # nothing to accumulate, so no second gradient in memory
            (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(params, frozen, first, key)
            return sums, _divide(grads, sums)
        zeros = _zeros(jax.eval_shape(loss, params, frozen, first, key)[1])
        start = (zeros, jax.tree.map(jnp.zeros_like, params))
        sums, grads = jax.lax.fori_loop(0, used, add, start)
        return sums, _divide(grads, sums)

    return gradient


def make_evaluation(
    model: ModelConfig, settings: ObjectiveSettings, compute: Compute, mesh: Mesh | None = None
) -> Evaluate:
    """A jitted function (trained params, frozen params, rows [N, B, ...], used) -> (sum, weight) of the loss and of
    each metric, over the first `used` of the N micro-batches, without dropout."""
    loss = _make_loss(model, settings, compute, mesh)

    @in_precision_of(DTYPES[compute.dtype])
    def evaluate(params: decoder.Params, frozen: decoder.Params, rows: TreeRow, used: Int[Array, ""]) -> Sums:
        def add(number: Array, sums: Sums) -> Sums:
            micro = jax.tree.map(lambda leaf: leaf[number], rows)
            return _together(sums, loss(params, frozen, micro, None)[1])

        first = jax.tree.map(lambda leaf: leaf[0], rows)
        zeros = _zeros(jax.eval_shape(loss, params, frozen, first, None)[1])
        return jax.lax.fori_loop(0, used, add, zeros)

    return jax.jit(evaluate)


def _together(sums: Sums, more: Sums) -> Sums:
    """The sums of both, and of maxima the larger one."""
    join = {name: jnp.maximum if is_maximum(name) else jnp.add for name in sums}
    return {name: jax.tree.map(join[name], pair, more[name]) for name, pair in sums.items()}


def _zeros(shapes: Sums) -> Sums:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _divide(grads: decoder.Params, sums: Sums) -> decoder.Params:
    """Gradient of the mean loss from that of the summed loss; an empty batch has loss 0 and gradient 0."""
    weight = jnp.maximum(sums["loss"][1], 1e-9)
    return jax.tree.map(lambda leaf: leaf / weight, grads)


def make_step(
    model: ModelConfig,
    settings: ObjectiveSettings,
    compute: Compute,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    seed: int = 0,
) -> jax.stages.Wrapped:
    """A jitted `Step` (state, rows [N, B, ...], used) -> (state, metrics) that donates the state.

    Metrics are means (NaN where the batch has nothing to average), plus `grad_norm` (before clipping) and `weight`, the
    sum of weights by which the loss was divided. Dropout is keyed by `seed` and the step, so that a resumed run drops
    the same entries.
    """
    gradient = make_gradient(model, settings, compute, mesh)

    def step(state: TrainState, rows: TreeRow, used: Int[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        drops = model.lora is not None and model.lora.dropout > 0
        key = jax.random.fold_in(jax.random.key(seed), state.step) if drops else None
        sums, grads = gradient(state.params, state.frozen, rows, used, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics = {name: jnp.where(pair[1] > 0, pair[0] / pair[1], jnp.nan) for name, pair in sums.items()}
        metrics |= {"grad_norm": optax.tree.norm(grads), "weight": sums["loss"][1]}
        params: decoder.Params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, state.frozen), metrics

    return jax.jit(step, donate_argnums=0)
