"""Compiling a stage's programs for a slice that is not there: libtpu compiles ahead of time on any Linux machine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh

from aloe_jax.decode import programs
from aloe_jax.decode.cache import Cache, empty_cache
from aloe_jax.errors import InputError
from aloe_jax.hub.config_file import read_config
from aloe_jax.hub.families import model_config
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.lora import LoraSettings
from aloe_jax.parallel.mesh import MeshSettings
from aloe_jax.parallel.sharding import cache_sharding, placed, replicated, row_sharding
from aloe_jax.plan.flags import set_flag
from aloe_jax.plan.topology import Topology
from aloe_jax.run.settings import ModelSettings
from aloe_jax.train.adapters import with_adapters
from aloe_jax.train.forward import Compute
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.settings import TrainingSettings
from aloe_jax.train.state import abstract_state
from aloe_jax.train.step import make_step
from aloe_jax.tree.pack import empty_row
from aloe_jax.tree.row import Capacity

INSTALL = "pip install 'aloe_jax[plan]'"
STEPS = 1000  # of the learning-rate schedule; the compiled program does not depend on it
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


def topology_mesh(topology: Topology, mesh: MeshSettings) -> Mesh:
    """The config's mesh over the chips of a slice.

    Raises InputError if libtpu is missing or does not know the slice, or if the mesh does not fit it.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"libtpu, which compiles for TPUs, is not installed; run `{INSTALL}` (Linux, x86-64)")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    set_flag()
    jax.config.update("jax_platforms", "cpu")  # leaves a TPU of this machine to whoever uses it
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology.name).devices
    except Exception as error:  # jax has no type for it
        reason = str(error).splitlines()[0]
        raise InputError(f"--topology: libtpu does not compile for '{topology.name}' ({reason})") from None
    return mesh.build(devices)


def compile_step(
    training: TrainingSettings,
    compute: Compute,
    row: Capacity,
    model: ModelConfig,
    mesh: Mesh,
    rows: int,
    micro_batches: int,
) -> jax.stages.Compiled:
    """The compiled step of a training over [micro_batches, rows, ...] rows of capacity `row`."""
    optimizer = make_optimizer(training, STEPS)
    place = row_sharding(mesh, leading=1)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((micro_batches, rows, *leaf.shape), leaf.dtype, sharding=place),
        empty_row(row),
    )
    used = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))
    step: Any = make_step(model, training, compute, optimizer, mesh)  # jitted, which its type does not say
    return step.lower(abstract_state(model, optimizer, mesh), batch, used).compile()


def abstract_params(model: ModelConfig, mesh: Mesh) -> decoder.Params:
    """Shapes and shardings of the parameters (f32)."""
    return placed(decoder.abstract_params(model), decoder.shardings(model, mesh))


def decoding_programs(
    model: ModelConfig, mesh: Mesh, slots: int, context: int
) -> dict[str, Callable[[], jax.stages.Compiled]]:
    """The engine's two programs, each a function that compiles it: a chunk of a prompt, and a burst of all slots. As
    the engine of a run does, they compute in f32."""
    whole = -(-context // programs.CHUNK) * programs.CHUNK

    def abstract(tree: Any, place: jax.sharding.Sharding) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)

    params, everywhere = abstract_params(model, mesh), replicated(mesh)
    cache = abstract(jax.eval_shape(lambda: empty_cache(model, slots, whole, jnp.float32)), cache_sharding(mesh))
    state = abstract(jax.eval_shape(lambda: programs.idle_slots(slots)), everywhere)
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    chunk = jax.ShapeDtypeStruct((1, programs.CHUNK), jnp.int32, sharding=everywhere)

    def prefill(params: decoder.Params, cache: Cache, tokens: jax.Array, start: jax.Array, slot: jax.Array) -> Cache:
        return programs.prefill(params, cache, tokens, start, slot, model=model, dtype=jnp.float32)

    def burst(params: decoder.Params, cache: Cache, state: programs.Slots) -> Any:
        ends = jnp.zeros(1, jnp.int32)
        return programs.burst(
            params, cache, state, None, False, programs.BURST, model=model, dtype=jnp.float32, ends=ends, vocab=None
        )

    return {
        "prefill": lambda: jax.jit(prefill, donate_argnums=1).lower(params, cache, chunk, number, number).compile(),
        "burst": lambda: jax.jit(burst, donate_argnums=(1, 2)).lower(params, cache, state).compile(),
    }
