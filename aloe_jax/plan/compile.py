"""Compiling a stage's programs for a slice that is not there: libtpu compiles ahead of time on any Linux machine."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh

from aloe_jax.decode.cache import Pages, empty_pages
from aloe_jax.decode.executor import check_mesh, words_of
from aloe_jax.decode.plans import Shape, idle_rows, no_chunks
from aloe_jax.decode.programs import Chunks, Rows, Setup, programs
from aloe_jax.errors import InputError
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.families import model_config
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import apart, decoder
from aloe_jax.models.apart import Layers
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.lora import LoraSettings
from aloe_jax.parallel.mesh import MeshSettings
from aloe_jax.parallel.sharding import pages_sharding, placed, replicated, row_sharding
from aloe_jax.plan.flags import flags
from aloe_jax.plan.topology import Topology
from aloe_jax.run.settings import ModelSettings
from aloe_jax.train.adapters import with_adapters
from aloe_jax.train.forward import Compute
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.policy_pass import make_policy_pass
from aloe_jax.train.settings import LoopSettings
from aloe_jax.train.state import abstract_state
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row
from aloe_jax.tree.row import Capacity, TreeRow

INSTALL = "pip install 'aloe_jax[plan]'"
STEPS = 1000  # of the learning-rate schedule; the compiled program does not depend on it
_loaded_with: dict[str, str] = {}  # the flags of the first plan in this process
# Without these libtpu looks for a TPU machine's metadata and refuses a second process that has it open.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any; the topology's name says what is compiled for
}


def planned_model(settings: ModelSettings, lora: LoraSettings) -> ModelConfig:
    """The model with its adapters. `config.model.sizes` stands for a source that is no folder here, so that nothing is
    downloaded. InputError for a source or sizes that make no model."""
    if settings.sizes and not Path(settings.source).expanduser().is_dir():
        model = model_config(dict(settings.sizes), "config.model.sizes")
    else:
        model = read_config(resolve_model(settings.source))[0]
    return with_adapters(model, lora)


def topology_mesh(topology: Topology, mesh: MeshSettings, where: str = "config.mesh") -> Mesh:
    """The config's mesh, of the section `where`, over the chips of a slice.

    Raises InputError if libtpu is missing, was loaded with other flags or does not know the slice, or if the mesh does
    not fit it.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"libtpu, which compiles for TPUs, is not installed; run `{INSTALL}` (Linux, x86-64)")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if _loaded_with.setdefault("flags", flags()) != flags():
        raise InputError(
            "config.tuning: libtpu was loaded in this process with other flags, which it reads once; plan with each "
            "tuning in a process of its own"
        )
    jax.config.update("jax_platforms", "cpu")  # leaves a TPU of this machine to whoever uses it
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology.name).devices
    except Exception as error:  # jax has no type for it
        reason = str(error).splitlines()[0]
        raise InputError(f"--topology: libtpu does not compile for '{topology.name}' ({reason})") from None
    return mesh.build(devices, where)


def compile_step(
    training: LoopSettings,
    compute: Compute,
    row: Capacity,
    model: ModelConfig,
    mesh: Mesh,
    rows: int,
    micro_batches: int,
) -> jax.stages.Compiled:
    """The compiled step of a training over [micro_batches, rows, ...] rows of capacity `row`."""
    optimizer = make_optimizer(training, STEPS)
    step: Any = make_step(model, training, compute, optimizer, mesh)  # jitted, which its type does not say
    state = abstract_state(model, optimizer, mesh)
    return step.lower(state, *_abstract_batch(row, mesh, rows, micro_batches)).compile()


def compile_pass(
    compute: Compute, row: Capacity, model: ModelConfig, mesh: Mesh, rows: int, micro_batches: int
) -> jax.stages.Compiled:
    """The compiled pass of a policy over the same rows."""
    run: Any = make_policy_pass(model, compute, mesh)  # jitted, which its type does not say
    return run.lower(abstract_params(model, mesh), *_abstract_batch(row, mesh, rows, micro_batches)).compile()


def _abstract_batch(row: Capacity, mesh: Mesh, rows: int, micro_batches: int) -> tuple[TreeRow, jax.ShapeDtypeStruct]:
    """Rows [N, B, ...] and the number of micro-batches that are used."""
    place = row_sharding(mesh, leading=1)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((micro_batches, rows, *leaf.shape), leaf.dtype, sharding=place),
        empty_row(row),
    )
    return batch, jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))


def abstract_params(model: ModelConfig, mesh: Mesh) -> decoder.Params:
    """Shapes and shardings of the parameters (f32)."""
    return placed(decoder.abstract_params(model), decoder.shardings(model, mesh))


class Engine(NamedTuple):
    """What an engine holds, abstract, and its two programs as functions that compile them: a full prefill, and a burst
    of all slots, which counts as one step."""

    params: Layers
    pages: tuple[Pages, ...]
    programs: dict[str, Callable[[], jax.stages.Compiled]]


def abstract_engine(model: ModelConfig, mesh: Mesh, shape: Shape, dtype: str) -> Engine:
    """The engine of `shape`. InputError if the mesh does not fit the model."""
    check_mesh(model, mesh)
    made = programs(Setup(model, dtype, ends=(0,), mesh=mesh), whole=True)
    params = placed(
        jax.eval_shape(functools.partial(apart.apart, config=model, dtype=dtype), decoder.abstract_params(model)),
        apart.apart_shardings(model, mesh),
    )
    everywhere = replicated(mesh)

    def spread(tree: Any, place: jax.sharding.Sharding) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)

    pages = functools.partial(empty_pages, model, shape.shares * shape.pages, shape.page, jnp.dtype(dtype))
    cache = spread(jax.eval_shape(pages), pages_sharding(mesh))
    sequences, place = shape.rows * shape.shares, row_sharding(mesh)
    plan = idle_rows(sequences, shape.width)
    rows = Rows(*(spread(getattr(plan, name), place) for name in Rows._fields))
    words = jax.ShapeDtypeStruct((sequences, words_of(model)), jnp.uint32, sharding=place)
    want_top = jax.ShapeDtypeStruct((), jnp.bool, sharding=everywhere)
    steps = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    prompts = no_chunks(shape.chunk_buckets[-1] * shape.shares, shape)
    chunks = Chunks(*(spread(getattr(prompts, name), place) for name in Chunks._fields))
    prefill: Any = made.prefill  # jitted, which their types do not say
    burst: Any = made.burst
    return Engine(
        params,
        cache,
        {
            "prefill": lambda: prefill.lower(params, cache, chunks).compile(),
            "burst": lambda: burst.lower(params, cache, rows, words, want_top, steps).compile(),
        },
    )
