"""The decoder: one pre-norm transformer with rotary positions, grouped-query attention and a gated MLP.

NNX declares the parameters and the maths of a block; the layers are stacked and scanned. Parameters travel as a plain
nested dict of arrays (layers stacked on axis 0), which is what optimisers, checkpoints and weight tables see. How
queries meet keys is an argument (`Attend`): training passes tree attention over a row, decoding attention over its
cache.

Axes: B rows, T tokens, D model width, H heads, G key heads, K head width, L layers, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.attention import ATTENTION_OUTPUT

Params = dict[str, Any]
# (layer index, query [B,T,H,K], key [B,T,G,K], value [B,T,G,K], carry) -> (output [B,T,H,K], carry)
Attend = Callable[[Array, Array, Array, Array, Any], tuple[Array, Any]]

# What the backward pass finds again without `remat`: matrix products and attention. Norms, rotations and gates are
# cheaper to compute again than to keep.
_KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(ATTENTION_OUTPUT),
)


def _param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int | None = None) -> nnx.Param:
    """A parameter with logical axis names (parallel/sharding.py maps them to the mesh). fan_in None: ones (a norm)."""
    if fan_in is None:
        value = jnp.ones(shape, jnp.float32)
    else:
        value = jax.random.normal(rngs.params(), shape, jnp.float32) * fan_in**-0.5
    return nnx.Param(value, axes=axes)


def rms_norm(x: Float[Array, "*B D"], scale: Float[Array, D], eps: float) -> Float[Array, "*B D"]:
    """Root-mean-square norm, computed in f32 (arXiv 1910.07467)."""
    x32 = x.astype(jnp.float32)
    normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (scale.astype(jnp.float32) * normed).astype(x.dtype)


def rotary(x: Float[Array, "B T N K"], positions: Int[Array, "B T"], theta: float) -> Float[Array, "B T N K"]:
    """Rotary position embedding, halves rotated together as Hugging Face stores them (arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


class Block(nnx.Module):
    """One layer."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        c = config
        self.config = config
        self.attention_norm = _param(rngs, (c.dim,), ("norm",))
        self.query = _param(rngs, (c.dim, c.heads, c.head_dim), ("embed", "heads", "head_dim"), c.dim)
        self.key = _param(rngs, (c.dim, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.dim)
        self.value = _param(rngs, (c.dim, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.dim)
        self.output = _param(rngs, (c.heads, c.head_dim, c.dim), ("heads", "head_dim", "embed"), c.heads * c.head_dim)
        self.mlp_norm = _param(rngs, (c.dim,), ("norm",))
        self.gate = _param(rngs, (c.dim, c.mlp_dim), ("embed", "mlp"), c.dim)
        self.up = _param(rngs, (c.dim, c.mlp_dim), ("embed", "mlp"), c.dim)
        self.down = _param(rngs, (c.mlp_dim, c.dim), ("mlp", "embed"), c.mlp_dim)

    def __call__(
        self, x: Float[Array, "B T D"], positions: Int[Array, "B T"], layer: Array, attend: Attend, carry: Any
    ) -> tuple[Float[Array, "B T D"], Any]:
        weight = lambda param: param[...].astype(x.dtype)  # noqa: E731
        eps, theta = self.config.norm_eps, self.config.rope_theta
        shape = x.shape
        # Matmuls see one axis N = B * T: with two, XLA's CPU backend computes weight gradients at half the speed.
        x = x.reshape(-1, shape[-1])
        normed = rms_norm(x, self.attention_norm[...], eps)
        heads = lambda param: jnp.einsum("nd,dhk->nhk", normed, weight(param)).reshape(*shape[:2], *param.shape[1:])  # noqa: E731
        query = rotary(heads(self.query), positions, theta)
        key = rotary(heads(self.key), positions, theta)
        attended, carry = attend(layer, query, key, heads(self.value), carry)
        x = x + jnp.einsum("nhk,hkd->nd", attended.reshape(-1, *attended.shape[2:]), weight(self.output))
        normed = rms_norm(x, self.mlp_norm[...], eps)
        gated = jax.nn.silu(normed @ weight(self.gate)) * (normed @ weight(self.up))
        return (x + gated @ weight(self.down)).reshape(shape), carry


class Decoder(nnx.Module):
    """Embedding, stacked blocks, final norm and output head."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embed = _param(rngs, (config.vocab, config.dim), ("vocab", "embed"), config.dim)
        stacked = nnx.vmap(Block, in_axes=(None, 0))
        self.layers = stacked(config, rngs.fork(split=config.layers))
        self.final_norm = _param(rngs, (config.dim,), ("norm",))
        if not config.tied:
            self.head = _param(rngs, (config.dim, config.vocab), ("embed", "vocab"), config.dim)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        attend: Attend,
        carry: Any = None,
        dtype: Any = jnp.float32,
        remat: bool = False,
        constrain: Callable[[Array], Array] = lambda x: x,
    ) -> tuple[Float[Array, "B T D"], Any]:
        x = constrain(self.embed[...].astype(dtype)[tokens])
        graph, stacked = nnx.split(self.layers)

        def body(state: tuple[Array, Any], layer: tuple[Array, Any]) -> tuple[tuple[Array, Any], None]:
            block = nnx.merge(graph, layer[1])
            x, carry = block(state[0], positions, layer[0], attend, state[1])
            return (constrain(x), carry), None

        # A scan keeps the compiler from merging the two computations by itself, so no barrier is needed.
        body = jax.checkpoint(body, policy=None if remat else _KEPT, prevent_cse=False)
        (x, carry), _ = jax.lax.scan(body, (x, carry), (jnp.arange(self.config.layers), stacked))
        return rms_norm(x, self.final_norm[...], self.config.norm_eps), carry


@functools.cache
def structure(config: ModelConfig) -> tuple[Any, Any]:
    """(graph definition, abstract state with logical axes) of the decoder; nothing is computed."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))


def abstract_params(config: ModelConfig) -> Params:
    """The parameter tree as `jax.ShapeDtypeStruct` (f32)."""
    return nnx.to_pure_dict(structure(config)[1])


def logical_axes(config: ModelConfig) -> Params:
    """The parameter tree with a tuple of logical axis names at each leaf; stacked leaves start with "layers"."""
    axes: Params = {}
    for path, leaf in nnx.to_flat_state(structure(config)[1]):
        place = axes
        for part in path[:-1]:
            place = place.setdefault(part, {})
        names = leaf.get_metadata("axes")
        place[path[-1]] = ("layers", *names) if path[0] == "layers" else names
    return axes


def init_params(config: ModelConfig, key: Array) -> Params:
    """Random parameters (f32). Jit it with `out_shardings` so that they are born sharded."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(key))))


def hidden_states(
    params: Params,
    config: ModelConfig,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    attend: Attend,
    carry: Any = None,
    dtype: Any = jnp.float32,
    remat: bool = False,
    constrain: Callable[[Array], Array] = lambda x: x,
) -> tuple[Float[Array, "B T D"], Any]:
    """States after the final norm, and the attention's carry.

    `dtype` is what activations are computed in; with `remat` the backward pass computes a whole layer again, without it
    only what is cheaper to compute than to keep;
    `constrain` pins the sharding of the residual stream [B,T,D].
    """
    graph, abstract = structure(config)
    state = jax.tree.unflatten(jax.tree.structure(abstract), jax.tree.leaves(params))
    return nnx.merge(graph, state)(tokens, positions, attend, carry, dtype, remat, constrain)


def head_weight(params: Params) -> Float[Array, "D V"]:
    """The output head; the transposed embedding where they are tied."""
    return params["head"] if "head" in params else params["embed"].T
