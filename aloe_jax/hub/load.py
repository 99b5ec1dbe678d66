"""Parameters from a Hugging Face folder, each device's slices read straight to where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from aloe_jax.hub import config_file, families, tensors
from aloe_jax.hub.tensors import Tensor
from aloe_jax.models.config import ModelConfig, Weight

Params = dict[str, Any]
Index = tuple[slice, ...]


def load_model(
    folder: Path | str, shardings: Params | None = None, dtype: str = "float32"
) -> tuple[ModelConfig, Params]:
    """Config and parameters of a Hugging Face folder. Raises InputError as `load_params` does."""
    config, _ = config_file.read_config(Path(folder))
    return config, load_params(folder, config, shardings, dtype)


def load_params(
    folder: Path | str, config: ModelConfig, shardings: Params | None = None, dtype: str = "float32"
) -> Params:
    """The parameters of the model in `folder` as a nested dict of jax arrays, layers stacked on axis 0.

    `shardings` mirrors the parameters with one `jax.sharding.Sharding` a leaf; each process then reads only the slices
    its devices hold. None puts everything on the default device. `dtype` is float32, bfloat16 or float16.

    Raises InputError for tensors that are missing, extra, misshapen or truncated, and for an unknown `dtype`.
    """
    wanted = tensors.as_dtype(dtype)
    stored = tensors.checked(tensors.read_safetensors(Path(folder)), config, str(folder))
    params: Params = {}
    for weight in families.weights(config):
        place, placement = params, shardings
        for part in weight.path[:-1]:
            place = place.setdefault(part, {})
            placement = None if placement is None else placement[part]
        target = None if placement is None else placement[weight.path[-1]]
        place[weight.path[-1]] = _leaf(stored, weight, config, wanted, target)
    return params


def _leaf(
    stored: Mapping[str, Tensor], weight: Weight, config: ModelConfig, dtype: np.dtype, target: Sharding | None
) -> jax.Array:
    """One parameter. The views are of mapped files, so only what `_read` slices out of them is read."""
    views = [weight.to_param(stored[name].read()) for name in families.tensor_names(weight, config)]
    stacked = weight.path[0] == "layers"
    shape = ((len(views),) if stacked else ()) + views[0].shape
    if target is None:
        return jnp.asarray(_read(views, stacked, (slice(None),) * len(shape), dtype))
    return jax.make_array_from_callback(shape, target, lambda index: _read(views, stacked, index or (), dtype))


def _read(views: list[np.ndarray], stacked: bool, index: Index, dtype: np.dtype) -> np.ndarray:
    """The slice `index` of the (stacked) views, copied out of the files, as `dtype`."""
    if not stacked:
        return np.array(views[0][index], dtype, order="C")
    layers = [view[index[1:]] for view in views[index[0]]]
    result = np.empty((len(layers), *layers[0].shape), dtype)
    for number, layer in enumerate(layers):
        result[number] = layer
    return result
