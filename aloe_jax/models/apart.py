"""The decoder with its layers apart, as decoding holds it.

Training scans over stacked layers, which compiles one of them. A scan copies each layer's slice of the stacked
parameters, which decoding would pay for with every token: here each layer has arrays of its own.

Axes: B rows, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Attend, LayerValues, Options
from aloe_jax.models.params import Params
from aloe_jax.ops.attention import cap
from aloe_jax.parallel.sharding import replicated


class LayerInput(NamedTuple):
    """What one layer has of its own: its values for attention, its rotary frequencies [Half], and its parameters."""

    values: LayerValues
    frequencies: Float[Array, Half]
    params: Params


class Layers(NamedTuple):
    """A decoder whose layers are apart, for programs that do not scan over them: a scan copies each layer's slice of
    the stacked parameters, which decoding would pay for with every token."""

    outer: Params  # embedding, final norm, head
    layers: tuple[LayerInput, ...]


def apart(params: Params, config: ModelConfig, dtype: DTypeLike) -> Layers:
    """The decoder's layers apart, with all parameters but those of norms in `dtype`."""
    layers = (layer_input(params["layers"], config, dtype, number) for number in range(config.layers))
    return Layers(outer(params, dtype), tuple(layers))


def outer(params: Params, dtype: DTypeLike) -> Params:
    """What `apart` gives outside the layers."""
    return _converted({name: value for name, value in params.items() if name != "layers"}, dtype)


def layer_input(stacked: Params, config: ModelConfig, dtype: DTypeLike, number: int | Int[Array, ""]) -> LayerInput:
    """What `apart` gives of the layer `number`. It may be traced, so that one small program serves all layers: one that
    takes them all apart takes seconds to compile."""
    values, frequencies, own = jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), decoder.scan_input(config, stacked)
    )
    return LayerInput(values, frequencies, _converted(own, dtype))


def _converted(params: Params, dtype: DTypeLike) -> Params:
    def converted(path: tuple[Any, ...], leaf: Array) -> Array:
        return leaf if "norm" in path[-1].key else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(converted, params)


def apart_shardings(config: ModelConfig, mesh: Mesh) -> Layers:
    """The shardings of `apart` for decoding. Raises InputError as `param_shardings` does."""
    places, whole = decoder.shardings(config, mesh, decoding=True), replicated(mesh)
    layer = jax.tree.map(lambda place: NamedSharding(mesh, PartitionSpec(*place.spec[1:])), places["layers"])
    values, frequencies, _ = jax.tree.map(lambda _: whole, decoder.scan_input(config, {}))
    outer = {name: place for name, place in places.items() if name != "layers"}
    return Layers(outer, (LayerInput(values, frequencies, layer),) * config.layers)


def embedded(outer: Params, config: ModelConfig, tokens: Int[Array, "B T"], options: Options) -> Float[Array, "B T D"]:
    """The states before the first layer."""
    return decoder.embed_tokens(outer["embed"], config, tokens, options)


def layer_states(
    layer: LayerInput,
    config: ModelConfig,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    attend: Attend,
    carry: Any,
    options: Options,
) -> tuple[Float[Array, "B T D"], Any]:
    """The states after one layer, and the attention's carry."""
    graph, abstract = decoder.block_structure(config)
    block = nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(abstract), jax.tree.leaves(layer.params)))
    x, carry = block(x, positions, layer.values, layer.frequencies, attend, carry, None)
    return options.constrain(x), carry


def head_logits(outer: Params, config: ModelConfig, x: Float[Array, "N D"]) -> Float[Array, "N V"]:
    """The logits (f32) after the last layer: final norm, output head, soft cap."""
    x = decoder.norm(config, x, None if config.norm == "layer" else outer["final_norm"])
    logits = jnp.einsum("nd,dv->nv", x, decoder.head_weight(outer, config), preferred_element_type=jnp.float32)
    return cap(logits.astype(jnp.float32), config.final_soft_cap)
