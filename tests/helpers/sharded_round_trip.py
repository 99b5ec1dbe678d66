"""Load a folder onto eight forced host devices and export it again; test_load.py runs this in a process of its own.

Checks on the way that each device holds its slice only, and that no byte is read twice though devices share rows.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from aloe_jax.hub import byte_ranges, exporter, load
from aloe_jax.models import decoder
from aloe_jax.parallel import mesh, sharding
from helpers import hub_files


def main(folder: str, out: str) -> None:
    config, whole = load.load_model(folder)
    abstract = decoder.abstract_params(config)
    shardings = sharding.param_shardings(
        abstract, decoder.logical_axes(config), mesh.make_mesh(replica=1, fsdp=4, tensor=2)
    )
    before = byte_ranges.bytes_read()
    _, params = load.load_model(folder, shardings)
    read, size = byte_ranges.bytes_read() - before, hub_files.weights_size(Path(folder))
    assert read == size, f"{read} bytes of {size}"
    for leaf, expected in zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, np.asarray(expected)[shard.index])
    query = params["layers"]["query"]  # [L, D over fsdp, H over tensor, K]
    assert query.addressable_shards[0].data.shape == (2, 16, 2, 16), query.addressable_shards[0].data.shape
    exporter.export_model(params, config, folder, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
