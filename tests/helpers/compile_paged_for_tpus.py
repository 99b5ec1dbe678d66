"""Compile attention over pages ahead of time for TPUs; test_tpu_paged_attention.py runs this in a process of its own.

Prints a line of JSON per module: the topology, the kind of its devices, the names of the kernels, the bytes that a chip
moves, and the instructions that give all pages of a layer and are no writes into them (there should be none).
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

from aloe_jax.decode.cache import Pages, attend_pages
from aloe_jax.models.decoder import LayerValues
from aloe_jax.ops.paged_attention import paged_attention
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.plan.hlo import traffic_of

ROW, HEADS, WHOLE = PartitionSpec("fsdp"), PartitionSpec("fsdp", None, "tensor"), PartitionSpec()
PAGES = PartitionSpec("fsdp", "tensor")
ROWS, ENTRIES, COUNT = 8, 16, 8192  # pages of a layer, which are too large for the memory on a chip


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
    layers: int = 0  # as many as the engine runs one after the other, with its writes; 0 is one call alone


MODULES = (
    Module("v5e:2x2", 1, 6, 2, 64, 64, "float32"),
    Module("v5e:2x2", 128, 8, 2, 128, 128, limited=False),
    Module("v5p:2x2x1", 1, 12, 4, 128, 64),
    Module("v6e:2x2", 5, 4, 2, 256, 256),
    Module("v6e:2x2", 1, 64, 16, 128, 64, layers=3),
    Module("v5e:2x2", 128, 8, 4, 128, 128, limited=False, layers=2),
)


def step(module: Module, mesh: Mesh, query, cache, tables, start, *layer):
    """One call on the mesh, or layers with pages of their own as the engine runs them, and their pages."""
    scale, limits = module.width**-0.5, dict(zip(("window", "soft_cap"), layer, strict=False))
    if not module.layers:
        return paged_attention(query, *cache[0], tables, start, scale=scale, mesh=mesh, **limits)
    attend, written = attend_pages(tables, start, jnp.full_like(start, module.new), scale, mesh), []
    values = LayerValues(jnp.int32(0), limits.get("window"), limits.get("soft_cap"))
    for pages in cache:
        out, pages = attend(values, query, query[:, :, : module.groups], query[:, :, -module.groups :], pages)
        query = query + out
        written.append(pages)
    return query, tuple(written)


def placed(mesh: Mesh, spec: PartitionSpec) -> NamedSharding | Format:
    """A sharding on the mesh; of pages also their layout, which for heads narrower than 128 is not the default one."""
    sharding = NamedSharding(mesh, spec)
    return Format(Layout((0, 1, 2, 3)), sharding) if spec == PAGES else sharding


def text_of(module: Module, mesh: Mesh) -> str:
    """The compiled module."""

    def abstract(shape, dtype, spec):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=placed(mesh, spec))

    dtype, layers = jnp.dtype(module.dtype), max(module.layers, 1)
    query = abstract((ROWS, module.new, module.heads, module.width), dtype, HEADS)
    pool = abstract((COUNT, module.groups, module.page, module.width), dtype, PAGES)
    arguments = [query, (Pages(pool, pool),) * layers]
    arguments += [abstract((ROWS, ENTRIES), jnp.int32, ROW), abstract((ROWS,), jnp.int32, ROW)]
    arguments += [abstract((), jnp.int32, WHOLE), abstract((), jnp.float32, WHOLE)] if module.limited else []
    given_back = placed(mesh, HEADS)
    if module.layers:
        given_back = given_back, (Pages(placed(mesh, PAGES), placed(mesh, PAGES)),) * layers
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # names the chip to Mosaic; JAX 0.12 asks for it
        given_up = (0, 1) if module.layers else ()
        jitted = jax.jit(functools.partial(step, module, mesh), donate_argnums=given_up, out_shardings=given_back)
        return jitted.lower(*arguments).compile().as_text()


def main() -> None:
    for module in MODULES:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=module.topology).devices
        text = text_of(module, make_mesh(fsdp=2, tensor=2, devices=devices))
        pool = rf"\[{COUNT // 2},{module.groups // 2},{module.page},{module.width}\]"
        whole = re.findall(rf"= \w+{pool}\S* (?!parameter|get-tuple-element|bitcast|scatter|fusion)[\w-]+", text)
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
