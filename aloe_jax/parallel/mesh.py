"""The device mesh: `replica` (copies of the model, across slices), `fsdp` (rows and shards of every parameter),
`tensor` (heads and MLP width)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from aloe_jax.errors import InputError
from aloe_jax.settings import setting

AXES = ("replica", "fsdp", "tensor")
ROWS = ("replica", "fsdp")  # the mesh axes over which rows of a batch are spread


@dataclass(frozen=True)
class MeshSettings:
    """`config.mesh`: the arrangement of the devices of all processes."""

    replica: int = setting(1, "copies of the model; over several slices their number, or a multiple of it")
    fsdp: int = setting(-1, "rows and parameter shards; -1 takes the devices that are left")
    tensor: int = setting(1, "heads and MLP width")

    def build(self, devices: Sequence[jax.Device] | None = None, where: str = "config.mesh") -> Mesh:
        """The mesh over `devices` (default: all, of all processes); see `make_mesh`."""
        return make_mesh(self.replica, self.fsdp, self.tensor, devices, where)


def make_mesh(
    replica: int = 1,
    fsdp: int = -1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
    where: str = "config.mesh",
) -> Mesh:
    """A mesh over `devices` (default: all, of all processes). One axis may be -1 and takes the devices that are left.
    `where` names the settings in messages.

    Over several TPU slices only `replica` crosses them, so that layers are gathered within a slice. Raises InputError
    if the product of the sizes is not the number of devices, or if `replica` is not a multiple of the number of slices.
    """
    sizes = [replica, fsdp, tensor]
    devices = jax.devices() if devices is None else devices
    available = len(devices)
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise InputError(f"{where}: sizes {sizes} of {AXES} must be positive, and at most one may be -1")
    if available % known or (-1 not in sizes and known != available):
        raise InputError(
            f"{where}: replica x fsdp x tensor = {known} does not fit {available} devices; set one axis to -1"
        )
    shape = tuple(available // known if size == -1 else size for size in sizes)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if shape[0] % slices:
        raise InputError(
            f"{where}.replica: {shape[0]} copies of the model on {slices} slices; set it to {slices} or a multiple"
        )
    within, across = (shape[0] // slices, *shape[1:]), (slices, 1, 1)
    # Two physical axes rarely fit three logical ones, and `jax.make_mesh` splits them on v5e alone.
    place = functools.partial(mesh_utils.create_device_mesh, within)
    if slices > 1:
        place = functools.partial(mesh_utils.create_hybrid_device_mesh, within, across)
    return Mesh(place(devices, allow_split_physical_axes=True), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def shape_in_words(shape: Mapping[str, int]) -> str:
    """The sizes of a mesh's axes as text: "replica 1 x fsdp 4 x tensor 2"."""
    return " x ".join(f"{axis} {size}" for axis, size in shape.items())


def row_shards(mesh: Mesh) -> int:
    """The number of shards of a batch's rows."""
    return mesh.shape["replica"] * mesh.shape["fsdp"]
