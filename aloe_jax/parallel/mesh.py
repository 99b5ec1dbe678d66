"""The device mesh: `replica` (copies of the model, across slices), `fsdp` (rows and shards of every parameter),
`tensor` (heads and MLP width)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import AxisType, Mesh

from aloe_jax.errors import InputError

AXES = ("replica", "fsdp", "tensor")
ROWS = ("replica", "fsdp")  # the mesh axes over which rows of a batch are spread


def make_mesh(replica: int = 1, fsdp: int = -1, tensor: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (default: all, of all processes); one axis may be -1 and takes what is left.

    Raises InputError if the sizes do not multiply to the number of devices.
    """
    sizes = [replica, fsdp, tensor]
    available = len(jax.devices() if devices is None else devices)
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise InputError(f"config.mesh: sizes {sizes} of {AXES} must be positive, and at most one may be -1")
    if available % known or (-1 not in sizes and known != available):
        raise InputError(
            f"config.mesh: replica x fsdp x tensor = {known} does not fit {available} devices; set one axis to -1"
        )
    shape = tuple(available // known if size == -1 else size for size in sizes)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def shape_in_words(shape: Mapping[str, int]) -> str:
    """As "replica 1 x fsdp 4 x tensor 2"."""
    return " x ".join(f"{axis} {size}" for axis, size in shape.items())


def row_shards(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are split."""
    return mesh.shape["replica"] * mesh.shape["fsdp"]
