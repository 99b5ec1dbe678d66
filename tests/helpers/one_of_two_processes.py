"""Load a folder as one of two processes with a CPU device each; test_load.py starts both.

Arguments: FOLDER PORT NUMBER DTYPE. Prints the bytes that this process read, and checks what its device holds.
"""

from __future__ import annotations

import os
import sys

os.environ["XLA_FLAGS"] = ""
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from safetensors.numpy import load_file

from aloe_jax.hub import byte_ranges, families, load
from aloe_jax.models import decoder
from aloe_jax.parallel import mesh, sharding


def main(folder: str, port: str, number: str, dtype: str) -> None:
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))
    config, _ = load.config_file.read_config(folder)
    shardings = sharding.param_shardings(
        decoder.abstract_params(config), decoder.logical_axes(config), mesh.make_mesh(fsdp=2)
    )
    params = load.load_params(folder, config, shardings, dtype)
    jax.block_until_ready(params)
    print(byte_ranges.bytes_read())
    stored = load_file(f"{folder}/model.safetensors")
    for weight in families.weights(config):
        whole = [weight.to_param(stored[name]) for name in families.tensor_names(weight, config)]
        leaf = params
        for part in weight.path:
            leaf = leaf[part]
        (shard,) = leaf.addressable_shards
        expected = (np.stack(whole) if weight.path[0] == "layers" else whole[0])[shard.index]
        assert shard.data.dtype == dtype
        np.testing.assert_array_equal(np.asarray(shard.data, np.float64), expected.astype(dtype).astype(np.float64))


if __name__ == "__main__":
    main(*sys.argv[1:])
