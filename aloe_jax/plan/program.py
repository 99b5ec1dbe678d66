"""One program of a stage: compiled for its target, with memory, operations and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.precision import PASSES
from aloe_jax.plan.cache import cached
from aloe_jax.plan.figures import Figures, figures
from aloe_jax.plan.flags import flags
from aloe_jax.plan.records import Memory, Program
from aloe_jax.plan.roofline import roofline
from aloe_jax.plan.topology import Topology


@dataclass(frozen=True)
class Target:
    """What programs are compiled for."""

    model: ModelConfig
    topology: Topology
    mesh: Mesh


def compiled_figures(
    target: Target,
    key: Mapping[str, object],
    compile_it: Callable[[], jax.stages.Compiled],
    unknown_trips: int | None = None,
) -> Figures:
    """The figures of the program that `compile_it` compiles, kept under `key` and what every program depends on: the
    model itself (wherever its sizes come from), mesh, slice and flags."""
    common = {
        "model": repr(target.model),
        "mesh": dict(target.mesh.shape),
        "topology": target.topology.name,
        "flags": flags(),
    }
    return cached({**common, **key}, lambda: figures(compile_it, target.mesh, unknown_trips))


def estimated(
    name: str,
    found: Figures,
    topology: Topology,
    *,
    dtype: str,
    parameters: float,
    optimizer: float,
    flops: float,
    beside: float = 0.0,
) -> Program:
    """The program with those figures, bytes of `parameters` and `optimizer` state per chip and of what stays `beside`
    it, and operations per chip and run, each of which takes as many passes of the bf16 unit as `dtype` needs. A program
    that was refused has no time."""
    work = flops * PASSES[jnp.dtype(dtype)]
    return Program(
        name,
        replace(_memory(found, topology, parameters, optimizer), beside=beside),
        flops,
        found.hbm,
        found.received,
        found.runs,
        roofline(work, found.hbm, found.over, topology) if found.compiled else None,
        found.seconds,
        found.over,
        found.unbounded,
        found.beside,
        found.unread,
    )


def _memory(found: Figures, topology: Topology, parameters: float, optimizer: float) -> Memory:
    """Of a program that was refused the compiler tells only what it needs; what of that is neither parameters nor
    optimiser counts as temporaries."""
    if found.compiled:
        return Memory(parameters, optimizer, found.temporaries, found.needed, float(topology.chip.hbm))
    beyond = max(0.0, found.needed - parameters - optimizer)
    return Memory(parameters, optimizer, beyond, found.needed, found.available)
