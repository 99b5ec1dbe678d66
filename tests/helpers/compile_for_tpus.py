"""Compile the TPU kernels ahead of time, forward and backward; test_tpu_attention.py runs this in a process of its own.

Prints a line of JSON per module: the topology, the kind of its devices, the names of the kernels in it, the tiles of
the log-sum-exp in HBM, and the shapes of boolean arrays of queries x keys (there should be none).
"""

from __future__ import annotations

import os

os.environ |= {
    "JAX_PLATFORMS": "cpu",  # what computes here; libtpu only compiles
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # beside other processes that have it open
    "TPU_SKIP_MDS_QUERY": "1",  # there is no metadata server
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}

import functools
import json
import re

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aloe_jax.ops.tpu_attention import pallas
from aloe_jax.parallel.mesh import make_mesh

ROW, HEADS, WHOLE = PartitionSpec("fsdp"), PartitionSpec("fsdp", None, "tensor"), PartitionSpec()
# (topology, tokens, head width, type, whether layers have windows and soft caps)
MODULES = (
    ("v5e:2x2", 512, 64, jnp.bfloat16, True),
    ("v5e:2x2", 384, 80, jnp.float32, True),
    ("v5p:2x2x1", 512, 128, jnp.bfloat16, False),
    ("v6e:2x2", 512, 256, jnp.bfloat16, True),
    ("v5e:2x2", 2048, 128, jnp.bfloat16, True),  # several blocks
)


def module(mesh: Mesh, length: int, width: int, dtype: jnp.dtype, limited: bool) -> str:
    """The compiled module of a step over two rows, eight query heads and four key heads, as text."""
    layer = (((), jnp.int32, WHOLE), ((), jnp.float32, WHOLE)) if limited else ()
    arguments = (
        ((2, length, 8, width), dtype, HEADS),
        *[((2, length, 4, width), dtype, HEADS)] * 2,
        *[((2, length), jnp.int32, ROW)] * 2,
        *layer,
    )
    attention = pallas if limited else functools.partial(pallas, window=None, soft_cap=None)
    sharded = jax.shard_map(
        functools.partial(attention, scale=width**-0.5),
        mesh=mesh,
        in_specs=tuple(spec for _, _, spec in arguments),
        out_specs=HEADS,
        check_vma=False,
    )
    step = jax.grad(lambda *args: jnp.sum(sharded(*args).astype(jnp.float32) ** 2), argnums=(0, 1, 2))
    abstract = [jax.ShapeDtypeStruct(*array, sharding=NamedSharding(mesh, spec)) for *array, spec in arguments]
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # names the chip to Mosaic; JAX 0.12 asks for it
        return jax.jit(step).lower(*abstract).compile().as_text()


def main() -> None:
    for topology, length, *rest in MODULES:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
        text = module(make_mesh(fsdp=2, tensor=2, devices=devices), length, *rest)
        calls = [line for line in text.splitlines() if 'custom_call_target="tpu_custom_call"' in line]
        names = [re.search(r"%(\w+?)(?:\.\d+)? =", call)[1] for call in calls]
        (forward,) = [call for call, name in zip(calls, names, strict=True) if name.endswith("forward")]
        report = {
            "topology": topology,
            "chip": devices[0].device_kind,
            "kernels": names,
            "log_sum_tiles": re.search(rf"f32\[1,4,1,{length}\]{{3,2,1,0:T\(([\d,]+)\)", forward)[1],
            "masks": re.findall(rf"pred\[[\d,]*{length},{length}\]", text),
        }
        print(json.dumps(report))


if __name__ == "__main__":
    main()
