"""The plan of the benchmark: the engine's programs, and what a dialogue costs when all slots are busy."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from aloe_jax.decode.engine import shape_for
from aloe_jax.decode.plans import Shape
from aloe_jax.parallel.sharding import bytes_per_chip
from aloe_jax.plan.compile import decoding_programs
from aloe_jax.plan.program import Target, compiled_figures, estimated
from aloe_jax.plan.records import DecodingPlan, Program
from aloe_jax.plan.settings import PlannedSettings


def plan_decoding(
    settings: PlannedSettings, target: Target, dtype: str, progress: Callable[[str], None]
) -> tuple[tuple[Program, ...], DecodingPlan | None]:
    """A full prefill and one step of all slots, whose pages are all live; no estimate of dialogues where one of them
    does not fit."""
    model, topology, mesh = target.model, target.topology, target.mesh
    context = min(settings.serve.context, model.context)
    shape = shape_for(settings.serve.slots, context, mesh, settings.decode.pages or None)
    slots, prompt = shape.rows * shape.shares, shape.chunk_buckets[-1] * shape.chunk * shape.shares
    tokens, states = {"prefill": prompt, "burst": slots}, {"prefill": 0, "burst": slots}
    params, compilations = decoding_programs(model, mesh, shape, dtype)
    weights = bytes_per_chip(params)
    programs = {}
    for name, compile_it in compilations.items():
        progress(f"compiling {name} for {topology.name}")
        key = {"decoding": name, "shape": repr(shape), "dtype": dtype}
        found = compiled_figures(target, key, compile_it, unknown_trips=1)
        # The chips of a share divide its products; each token sees the whole context at most.
        flops = model.matmul_flops(tokens[name], tokens[name] * context, states[name]) / topology.chips
        programs[name] = estimated(name, found, topology, dtype=dtype, parameters=weights, optimizer=0.0, flops=flops)
    burst, prefill = (programs[name].time for name in ("burst", "prefill"))
    if not (burst and prefill):
        return tuple(programs.values()), None
    dialogues = settings.dialogues
    new = dialogues.turns * dialogues.max_tokens  # tokens that the model writes; the user's are about as many
    seconds = topology.chips * (new * burst.seconds / slots + new / prompt * prefill.seconds)
    # A step reads its rows of an embedding that is not the head too.
    read = weights if model.tied else weights - bytes_per_chip(params.outer["embed"])
    least = read + live_pages(target, shape, dtype)
    return tuple(programs.values()), DecodingPlan(
        slots, context, slots / burst.seconds, seconds, programs["burst"].hbm, least, topology.chips
    )


def live_pages(target: Target, shape: Shape, dtype: str) -> float:
    """Bytes per chip of all slots' keys and values, each with its whole context."""
    model, ways = target.model, target.mesh.shape["tensor"]
    pages = 2 * model.layers * shape.rows * shape.width
    return float(pages * shape.page * (model.kv_heads // ways) * model.head_dim * jnp.dtype(dtype).itemsize)
