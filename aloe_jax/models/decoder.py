"""The decoder: a transformer with rotary positions, grouped-query attention and a gated MLP, built from its config.

NNX declares the parameters and the maths of a block; the layers are stacked and scanned. Outside this module parameters
are a plain nested dict of arrays (`params.py`), for optimisers, checkpoints and weight tables alike. The attention is
an argument (`Attend`): training passes tree attention over a row, decoding attention over its cache.

Axes: B rows, T tokens, D model width, H heads, G key heads, K head width, L layers, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from aloe_jax.models import lora
from aloe_jax.models.config import LINEAR, ModelConfig
from aloe_jax.models.lora import A, B
from aloe_jax.models.norms import layer_norm, rms_norm
from aloe_jax.models.params import Params, set_leaf
from aloe_jax.models.rope import rotary
from aloe_jax.ops.attention import NO_WINDOW
from aloe_jax.ops.constants import ATTENTION_OUTPUT, LAYER_INPUT
from aloe_jax.parallel.sharding import param_shardings

HEAD, HEAD_AXES = "head", ("embed", "vocab")  # the output head, a linear map too
ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True)}

# What the backward pass keeps of a layer instead of recomputing it, from nothing to everything. Norms, rotations and
# gates are cheaper to recompute than to keep.
_ATTENTION = jax.checkpoint_policies.save_only_these_names(ATTENTION_OUTPUT)
REMAT: dict[str, Callable[..., Any]] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    # Both wait in the memory of the host, and are copied back while the layer behind is computed.
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[LAYER_INPUT, ATTENTION_OUTPUT],
        offload_src="device",
        offload_dst="pinned_host",
    ),
    "attention": _ATTENTION,
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _ATTENTION
    ),
    "none": jax.checkpoint_policies.everything_saveable,
}


def _param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], deviation: float, mean: float) -> nnx.Param:
    """A parameter with logical axis names (parallel/sharding.py maps them to the mesh)."""
    value = jnp.full(shape, mean, jnp.float32)
    if deviation:
        value += jax.random.normal(rngs.params(), shape, jnp.float32) * deviation
    return nnx.Param(value, axes=axes)


class LayerValues(NamedTuple):
    """The values of a layer for attention; scalars inside the scan. None where no layer of the model has one."""

    index: Int[Array, ""]
    window: Int[Array, ""] | None  # NO_WINDOW where the layer has none
    soft_cap: Float[Array, ""] | None  # 0 where the layer has none
    amplitude: Float[Array, ""] | None = None  # of rotated queries and keys


# (layer, query [B,T,H,K], key [B,T,G,K], value [B,T,G,K], carry) -> (output [B,T,H,K], carry)
Attend = Callable[[LayerValues, Array, Array, Array, Any], tuple[Array, Any]]


class _ScanInput(NamedTuple):
    """The input of one step of the scan: a layer's values, its rotary frequencies [Half], and its parameters."""

    values: LayerValues
    frequencies: Float[Array, Half]
    params: Any


class Block(nnx.Module):
    """One layer. Every layer has the same norms, biases and adapters, as the config states."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        c = self.config = config
        unit = 0.0 if c.norm == "rms_offset" else 1.0

        def ones(name: str, *axes: str) -> None:
            setattr(self, name, _param(rngs, c.shape(axes), axes, 0.0, unit))

        for wanted, place in ((c.pre_norms, "norm"), (c.post_norms, "post_norm")):
            if wanted and c.norm != "layer":
                ones(f"attention_{place}", "norm")
                ones(f"mlp_{place}", "norm")
        if c.qk_norm:
            ones("query_norm", *("heads", "head_dim")[c.qk_norm == "head" :])
            ones("key_norm", *("kv_heads", "head_dim")[c.qk_norm == "head" :])
        for name, (inputs, outputs) in LINEAR.items():
            deviation = math.prod(c.shape(inputs)) ** -0.5
            setattr(self, name, _param(rngs, c.shape(inputs + outputs), inputs + outputs, deviation, 0.0))
            if name in c.biases:
                setattr(self, f"{name}_bias", _param(rngs, c.shape(outputs), outputs, 0.0, 0.0))
            if c.lora and name in c.lora.maps:
                _add_adapter(self, name, c, inputs, outputs, rngs)

    def _linear(self, name: str, x: Float[Array, N * I], dropout: Array | None) -> Float[Array, N * O]:
        """x W, plus the bias and the adapter if the map has them."""
        weight: Callable[[str], Array] = lambda suffix: getattr(self, name + suffix)[...].astype(x.dtype)  # noqa: E731
        inputs, lora = len(LINEAR[name][0]), self.config.lora
        out = jnp.tensordot(x, weight(""), axes=inputs)
        if lora and name in lora.maps:
            dropped = x
            if dropout is not None and lora.dropout:
                key = jax.random.fold_in(dropout, list(LINEAR).index(name))
                kept = jax.random.bernoulli(key, 1 - lora.dropout, x.shape)
                dropped = jnp.where(kept, x / (1 - lora.dropout), 0).astype(x.dtype)
            low = jnp.tensordot(dropped, weight(A), axes=inputs)
            out += jnp.asarray(lora.scale, x.dtype) * jnp.tensordot(low, weight(B), axes=1)
        return out + weight("_bias") if name in self.config.biases else out

    def _norm(self, name: str, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        return norm(self.config, x, None if self.config.norm == "layer" else getattr(self, name)[...])

    def _qk_norm(self, name: str, x: Float[Array, "N H K"]) -> Float[Array, "N H K"]:
        c = self.config
        if not c.qk_norm:
            return x
        offset = 1.0 if c.norm == "rms_offset" else 0.0
        return rms_norm(x, getattr(self, name)[...], c.norm_eps, 1 if c.qk_norm == "head" else 2, offset)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        layer: LayerValues,
        frequencies: Float[Array, Half],
        attend: Attend,
        carry: Any,
        dropout: Array | None,
    ) -> tuple[Float[Array, "B T D"], Any]:
        c, shape = self.config, x.shape
        # Matmuls get one axis N = B * T: with two, XLA's CPU backend computes weight gradients at half the speed.
        x = x.reshape(-1, shape[-1])
        normed = self._norm("attention_norm", x) if c.pre_norms else x
        query, key, value = (self._linear(name, normed, dropout) for name in ("query", "key", "value"))
        query, key = self._qk_norm("query_norm", query), self._qk_norm("key_norm", key)
        if c.clip_qkv is not None:
            query, key, value = (jnp.clip(array, -c.clip_qkv, c.clip_qkv) for array in (query, key, value))
        query, key, value = (array.reshape(*shape[:2], *array.shape[1:]) for array in (query, key, value))
        query, key = (rotary(array, positions, frequencies, layer.amplitude) for array in (query, key))
        attended, carry = attend(layer, query, key, value, carry)
        added = self._linear("output", attended.reshape(-1, *attended.shape[2:]), dropout)
        x = x + (self._norm("attention_post_norm", added) if c.post_norms else added)
        normed = self._norm("mlp_norm", x) if c.pre_norms else x
        gated = ACTIVATIONS[c.activation](self._linear("gate", normed, dropout)) * self._linear("up", normed, dropout)
        added = self._linear("down", gated, dropout)
        x = x + (self._norm("mlp_post_norm", added) if c.post_norms else added)
        return x.reshape(shape), carry


def _add_adapter(
    module: nnx.Module,
    name: str,
    config: ModelConfig,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    rngs: nnx.Rngs,
) -> None:
    """Add an adapter whose output is 0 at first: A is random, B zero (arXiv 2106.09685, section 4.1)."""
    assert config.lora
    deviation, rank = math.prod(config.shape(inputs)) ** -0.5, (config.lora.rank,)
    setattr(module, name + A, _param(rngs, config.shape(inputs) + rank, (*inputs, "rank"), deviation, 0.0))
    setattr(module, name + B, _param(rngs, rank + config.shape(outputs), ("rank", *outputs), 0.0, 0.0))


def norm(config: ModelConfig, x: Float[Array, "N D"], scale: Float[Array, D] | None) -> Float[Array, "N D"]:
    if scale is None:
        return layer_norm(x, config.norm_eps)
    return rms_norm(x, scale, config.norm_eps, offset=1.0 if config.norm == "rms_offset" else 0.0)


class Decoder(nnx.Module):
    """Embedding, stacked blocks, final norm and output head."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        c = self.config = config
        self.embed = _param(rngs, (c.vocab, c.dim), ("vocab", "embed"), c.dim**-0.5, 0.0)
        stacked = nnx.vmap(Block, in_axes=(None, 0))
        self.layers = stacked(c, rngs.fork(split=c.layers))
        if c.norm != "layer":
            self.final_norm = _param(rngs, (c.dim,), ("norm",), 0.0, 0.0 if c.norm == "rms_offset" else 1.0)
        if not c.tied:
            self.head = _param(rngs, (c.dim, c.vocab), HEAD_AXES, c.dim**-0.5, 0.0)
            if c.lora and HEAD in c.lora.maps:
                _add_adapter(self, HEAD, c, HEAD_AXES[:1], HEAD_AXES[1:], rngs)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        attend: Attend,
        carry: Any,
        options: Options,
    ) -> tuple[Float[Array, "B T D"], Any]:
        config, constrain = self.config, options.constrain
        x = embed_tokens(self.embed[...], config, tokens, options)
        graph, stacked = nnx.split(self.layers)

        def body(state: tuple[Array, Any], layer: _ScanInput) -> tuple[tuple[Array, Any], None]:
            block = nnx.merge(graph, layer.params)
            x = checkpoint_name(state[0], LAYER_INPUT)
            dropout = None if options.dropout is None else jax.random.fold_in(options.dropout, layer.values.index)
            x, carry = block(x, positions, layer.values, layer.frequencies, attend, state[1], dropout)
            return (constrain(x), carry), None

        # Inside a scan the compiler does not merge the two computations, so no barrier is needed.
        body = jax.checkpoint(body, policy=REMAT[options.remat], prevent_cse=False)
        (x, carry), _ = jax.lax.scan(body, (x, carry), scan_input(config, stacked))
        return norm(config, x, None if config.norm == "layer" else self.final_norm[...]), carry


def embed_tokens(
    embed: Float[Array, "V D"], config: ModelConfig, tokens: Int[Array, "B T"], options: Options
) -> Float[Array, "B T D"]:
    x = options.constrain(embed.astype(options.dtype)[tokens])
    return x if config.embed_scale == 1 else x * jnp.asarray(config.embed_scale, options.dtype)


def scan_input(config: ModelConfig, params: Any) -> _ScanInput:
    """The input of the scan, with the layers on axis 0."""
    layers = list(config.each_layer())
    turning = [layer.rope.frequencies(config.head_dim) if layer.rope else np.zeros(0) for layer in layers]
    width = max(map(len, turning)) or config.head_dim // 2
    frequencies = [found if len(found) else np.zeros(width) for found in turning]
    amplitudes = [layer.rope.amplitude if layer.rope else 1.0 for layer in layers]
    windows = [NO_WINDOW if layer.window is None else layer.window for layer in layers]
    caps = [layer.soft_cap or 0.0 for layer in layers]
    values = LayerValues(
        jnp.arange(config.layers),
        jnp.asarray(windows, jnp.int32) if min(windows) < NO_WINDOW else None,
        jnp.asarray(caps, jnp.float32) if any(caps) else None,
        jnp.asarray(amplitudes, jnp.float32) if set(amplitudes) != {1.0} else None,
    )
    return _ScanInput(values, jnp.asarray(np.stack(frequencies), jnp.float32), params)


@functools.cache
def structure(config: ModelConfig) -> tuple[Any, Any]:
    """(graph definition, abstract state with logical axes) of the decoder, without computing anything."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))


@functools.cache
def block_structure(config: ModelConfig) -> tuple[Any, Any]:
    """(graph definition, abstract state) of one layer."""
    return nnx.split(nnx.eval_shape(lambda: Block(config, nnx.Rngs(0))))


def abstract_params(config: ModelConfig) -> Params:
    """The parameter tree as `jax.ShapeDtypeStruct` (f32)."""
    return nnx.to_pure_dict(structure(config)[1])


def parameter_count(config: ModelConfig) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


def logical_axes(config: ModelConfig) -> Params:
    """The parameter tree with a tuple of logical axis names at each leaf; stacked leaves start with "layers"."""
    axes: Params = {}
    for path, leaf in nnx.to_flat_state(structure(config)[1]):
        names = leaf.get_metadata("axes")
        set_leaf(axes, path, ("layers", *names) if path[0] == "layers" else names)
    return axes


def shardings(config: ModelConfig, mesh: Mesh, decoding: bool = False) -> Params:
    """The sharding of every parameter, adapters included, in training or in decoding. Raises InputError as
    `param_shardings` does."""
    return param_shardings(abstract_params(config), logical_axes(config), mesh, decoding)


def init_params(config: ModelConfig, key: Array) -> Params:
    """Random parameters (f32). Jit it with `out_shardings` so that they are born sharded."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(key))))


@dataclass(frozen=True)
class Options:
    """How a forward pass is computed. `dtype` is the type of activations; `remat` names what the backward pass keeps
    (`REMAT`); `constrain` pins the sharding of the residual stream [B,T,D]; `dropout` is the random key of the
    adapters' dropout, None for no dropout."""

    dtype: Any = jnp.float32
    remat: str = "none"
    constrain: Callable[[Array], Array] = lambda x: x
    dropout: Array | None = None


def hidden_states(
    params: Params,
    config: ModelConfig,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    attend: Attend,
    carry: Any = None,
    options: Options = Options(),
) -> tuple[Float[Array, "B T D"], Any]:
    """The states after the final norm, and the attention's carry."""
    graph, abstract = structure(config)
    state = jax.tree.unflatten(jax.tree.structure(abstract), jax.tree.leaves(params))
    return nnx.merge(graph, state)(tokens, positions, attend, carry, options)


def linear_maps(config: ModelConfig) -> tuple[str, ...]:
    """The names of all linear maps that can have an adapter."""
    return tuple(LINEAR) if config.tied else (*LINEAR, HEAD)


def head_weight(params: Params, config: ModelConfig) -> Float[Array, "D V"]:
    """The output head, with its adapter if it has one; the transposed embedding where they are tied."""
    if config.tied:
        return params["embed"].T
    if config.lora and HEAD in config.lora.maps:
        part = {name: params[name] for name in (HEAD, HEAD + A, HEAD + B)}
        return lora.merge(part, config.lora)[HEAD]
    return params[HEAD]
