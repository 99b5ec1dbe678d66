"""The plan of the benchmark: the engine's programs, and what a dialogue costs when all slots are busy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp

from aloe_jax.decode.executor import shape_for
from aloe_jax.decode.plans import Shape
from aloe_jax.parallel.sharding import bytes_per_chip
from aloe_jax.plan.compile import abstract_engine
from aloe_jax.plan.program import Target, compiled_figures, estimated
from aloe_jax.plan.records import DecodingPlan, Program
from aloe_jax.plan.settings import PlannedSettings


@dataclass(frozen=True)
class PlannedEngine:
    """The engine of a stage: its programs `prefill` and `burst`, and bytes per chip of its parameters, of its pages and
    of the embedding."""

    shape: Shape
    programs: Mapping[str, Program]
    parameters: float
    pages: float
    embedding: float

    @property
    def slots(self) -> int:
        """Sequences that decode together."""
        return self.shape.rows * self.shape.shares

    @property
    def chunks(self) -> int:
        """Chunks of prompts of a full prefill."""
        return self.shape.chunk_buckets[-1] * self.shape.shares


def planned_engine(
    settings: PlannedSettings, target: Target, dtype: str, progress: Callable[[str], None], beside: float = 0.0
) -> PlannedEngine:
    """A full prefill and one step of all slots, whose pages are all live, with `beside` bytes per chip of others."""
    model, topology, mesh = target.model, target.topology, target.mesh
    context = min(settings.serve.context, model.context)
    shape = shape_for(settings.serve.slots, context, mesh, settings.decode.pages or None)
    slots, prompt = shape.rows * shape.shares, shape.chunk_buckets[-1] * shape.chunk * shape.shares
    tokens, states = {"prefill": prompt, "burst": slots}, {"prefill": 0, "burst": slots}
    engine = abstract_engine(model, mesh, shape, dtype)
    weights = bytes_per_chip(engine.params)
    programs = {}
    for name, compile_it in engine.programs.items():
        progress(f"compiling {name} for {topology.name}")
        key = {"decoding": name, "shape": repr(shape), "dtype": dtype}
        found = compiled_figures(target, key, compile_it, unknown_trips=1)
        # The chips of a share divide its products; each token sees the whole context at most.
        flops = model.matmul_flops(tokens[name], tokens[name] * context, states[name]) / topology.chips
        programs[name] = estimated(
            name, found, topology, dtype=dtype, parameters=weights, optimizer=0.0, flops=flops, beside=beside
        )
    outer = engine.params.outer
    return PlannedEngine(shape, programs, weights, bytes_per_chip(engine.pages), bytes_per_chip(outer["embed"]))


def plan_decoding(
    settings: PlannedSettings, target: Target, dtype: str, progress: Callable[[str], None]
) -> tuple[tuple[Program, ...], DecodingPlan | None]:
    """The engine's programs; no estimate of dialogues where one of them does not fit."""
    engine = planned_engine(settings, target, dtype, progress)
    programs, slots, chips = engine.programs, engine.slots, target.topology.chips
    burst, prefill = (programs[name].time for name in ("burst", "prefill"))
    if not (burst and prefill):
        return tuple(programs.values()), None
    dialogues, prompt = settings.dialogues, engine.chunks * engine.shape.chunk
    new = dialogues.turns * dialogues.max_tokens  # tokens that the model writes; the user's are about as many
    seconds = chips * (new * burst.seconds / slots + new / prompt * prefill.seconds)
    # A step reads its rows of an embedding that is not the head too.
    read = engine.parameters if target.model.tied else engine.parameters - engine.embedding
    least = read + live_pages(target, engine.shape, dtype)
    return tuple(programs.values()), DecodingPlan(
        slots, engine.shape.context, slots / burst.seconds, seconds, programs["burst"].hbm, least, chips
    )


def live_pages(target: Target, shape: Shape, dtype: str) -> float:
    """Bytes per chip of all slots' keys and values, each with its whole context."""
    model, ways = target.model, target.mesh.shape["tensor"]
    pages = 2 * model.layers * shape.rows * shape.width
    return float(pages * shape.page * (model.kv_heads // ways) * model.head_dim * jnp.dtype(dtype).itemsize)
