"""Compile attention over pages ahead of time for TPUs; test_tpu_paged_attention.py runs this in a process of its own.

Prints a line of JSON per module: the topology, the kind of its devices, the names of the kernels, the bytes that a chip
moves, and the instructions that give a whole pool of pages and are no writes into it (there should be none).
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
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aloe_jax.ops.paged_attention import paged_attention, write
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.plan.hlo import traffic_of

ROW, HEADS, WHOLE = PartitionSpec("fsdp"), PartitionSpec("fsdp", None, "tensor"), PartitionSpec()
PAGES = PartitionSpec("fsdp", "tensor")
ROWS, ENTRIES, PAGES_PER_LAYER = 8, 16, 8192  # the pool is too large for the memory on a chip


@dataclass(frozen=True)
class Module:
    """The sizes of one call, those of the mesh together."""

    topology: str
    new: int
    heads: int
    groups: int
    width: int
    page: int
    dtype: str = "bfloat16"
    limited: bool = True  # whether layers have windows and soft caps
    layers: int = 0  # a scan over so many that also writes the new keys and values; 0 is one call alone


MODULES = (
    Module("v5e:2x2", 1, 6, 2, 64, 64, "float32", layers=3),
    Module("v5e:2x2", 128, 8, 2, 128, 128, limited=False),
    Module("v5p:2x2x1", 1, 12, 4, 128, 64),
    Module("v6e:2x2", 5, 4, 2, 256, 256),
    Module("v6e:2x2", 1, 64, 16, 128, 64, layers=3),
)


def step(module: Module, mesh: Mesh, query, keys, values, tables, start, *layer):
    """One call on the mesh, or the layers of a decoding step on a pool that holds all of them."""
    attention = functools.partial(paged_attention, scale=module.width**-0.5)
    limits = dict(zip(("window", "soft_cap"), layer, strict=False))
    if not module.layers:
        return attention(query, keys, values, tables, start, mesh=mesh, **limits)

    def shard(query, keys, values, tables, start, window, soft_cap):
        def one(carry, number):
            x, *pools = carry
            own = tables * module.layers + number
            pools = [write(pool, x[:, :, : pool.shape[1]], own, start) for pool in pools]
            limits = {"window": window, "soft_cap": soft_cap}
            out = attention(x, *pools, own, start, implementation="pallas", **limits)  # of the chip's rows and heads
            return (x + out, *pools), None

        return jax.lax.scan(one, (query, keys, values), jnp.arange(module.layers))[0]

    specs = (HEADS, PAGES, PAGES, ROW, ROW, WHOLE, WHOLE)
    sharded = jax.shard_map(shard, mesh=mesh, in_specs=specs, out_specs=(HEADS, PAGES, PAGES), check_vma=False)
    return sharded(query, keys, values, tables, start, *layer)


def placed(mesh: Mesh, spec: PartitionSpec) -> NamedSharding | Format:
    """A sharding on the mesh; of pages also their layout, which for heads narrower than 128 is not the default one."""
    sharding = NamedSharding(mesh, spec)
    return Format(Layout((0, 1, 2, 3)), sharding) if spec == PAGES else sharding


def text_of(module: Module, mesh: Mesh) -> str:
    """The compiled module."""
    dtype, pages = jnp.dtype(module.dtype), PAGES_PER_LAYER * max(module.layers, 1)
    arguments = [((ROWS, module.new, module.heads, module.width), dtype, HEADS)]
    arguments += [((pages, module.groups, module.page, module.width), dtype, PAGES)] * 2
    arguments += [((ROWS, ENTRIES), jnp.int32, ROW), ((ROWS,), jnp.int32, ROW)]
    arguments += [((), jnp.int32, WHOLE), ((), jnp.float32, WHOLE)] if module.limited else []
    abstract = [jax.ShapeDtypeStruct(*array, sharding=placed(mesh, spec)) for *array, spec in arguments]
    given_up = (0, 1, 2) if module.layers else ()
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # names the chip to Mosaic; JAX 0.12 asks for it
        given_back = (placed(mesh, HEADS), *[placed(mesh, PAGES)] * 2) if module.layers else placed(mesh, HEADS)
        jitted = jax.jit(functools.partial(step, module, mesh), donate_argnums=given_up, out_shardings=given_back)
        return jitted.lower(*abstract).compile().as_text()


def main() -> None:
    for module in MODULES:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=module.topology).devices
        text = text_of(module, make_mesh(fsdp=2, tensor=2, devices=devices))
        pool = rf"\[{PAGES_PER_LAYER * max(module.layers, 1) // 2},{module.groups // 2},{module.page},{module.width}\]"
        whole = re.findall(rf"= \w+{pool}\S* (?!parameter|get-tuple-element|bitcast|dynamic-update-slice)[\w-]+", text)
        report = {
            **asdict(module),
            "chip": devices[0].device_kind,
            "kernels": re.findall(r'%(\w+?)(?:\.\d+)? = [^\n]*custom_call_target="tpu_custom_call"', text),
            "moved": traffic_of(text).hbm,
            "whole_pools": whole,
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
