"""Meshes over slices, without the slices; test_slices.py runs this in a process of its own.

Prints one line of JSON per slice: its name, the rows of a micro-batch, one per chip, that each host owns, and the
sizes of `tensor` that have a mesh. Then one
for two slices of four chips: the shape of the mesh, the slices along each copy of the model, and the number of kinds of
collective groups of the compiled step that cross slices, by the number of chips in a group.
"""

from __future__ import annotations

import json
import os

from aloe_jax.plan import compile as compiling

os.environ |= compiling.ENVIRONMENT

import jax
from jax.experimental import topologies

from aloe_jax.data.pipeline import owned_rows
from aloe_jax.errors import InputError
from aloe_jax.parallel.mesh import make_mesh

TENSOR = (1, 2, 4, 8, 16)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    for name in ("v5e:4x4", "v5p:2x2x4", "v6e:4x4", "v5e:8x8"):
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
        mesh = make_mesh(devices=devices)
        hosts = sorted({device.process_index for device in devices})
        rows = [owned_rows(mesh.size, mesh, host) for host in hosts]
        tensor = [make_mesh(tensor=size, devices=devices).shape["tensor"] for size in TENSOR]
        print(json.dumps({"name": name, "rows": rows, "tensor": tensor}))
    devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2", num_slices=2).devices
    mesh = make_mesh(replica=2, tensor=2, devices=devices)
    slices = [sorted({device.slice_index for device in copy.flat}) for copy in mesh.devices]
    try:
        make_mesh(devices=devices)
        refused = ""
    except InputError as error:
        refused = str(error)
    print(json.dumps({"shape": dict(mesh.shape), "slices": slices, "refused": refused}))


if __name__ == "__main__":
    main()
