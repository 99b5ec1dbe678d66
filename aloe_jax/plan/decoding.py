"""The plan of the benchmark: the engine's programs, and what a dialogue costs when all slots are busy."""

from __future__ import annotations

from collections.abc import Callable

from aloe_jax.decode.programs import BURST, CHUNK
from aloe_jax.parallel.sharding import bytes_per_chip
from aloe_jax.plan.compile import abstract_params, decoding_programs
from aloe_jax.plan.program import Target, compiled_figures, estimated
from aloe_jax.plan.records import DecodingPlan, Program
from aloe_jax.plan.settings import PlannedSettings

DTYPE = "float32"  # of the engine of a run


def plan_decoding(
    settings: PlannedSettings, target: Target, progress: Callable[[str], None]
) -> tuple[tuple[Program, ...], DecodingPlan | None]:
    """A chunk of a prompt and a burst of all slots; no estimate of dialogues where one of them does not fit."""
    model, topology, mesh = target.model, target.topology, target.mesh
    slots, context = settings.serve.slots, min(settings.serve.context, model.context)
    tokens = {"prefill": CHUNK, "burst": slots * BURST}
    states = {"prefill": 0, "burst": slots * BURST}
    parameters = bytes_per_chip(abstract_params(model, mesh))
    programs = {}
    for name, compile_it in decoding_programs(model, mesh, slots, context).items():
        progress(f"compiling {name} for {topology.name}")
        found = compiled_figures(target, {"slots": slots, "context": context, "program": name}, compile_it)
        flops = model.matmul_flops(tokens[name], 0, states[name]) / topology.chips
        # A slot's attention runs over its whole place in the cache, on every chip that holds its heads.
        flops += model.matmul_flops(0, tokens[name] * context, 0) / mesh.shape["tensor"]
        programs[name] = estimated(
            name, found, topology, dtype=DTYPE, parameters=parameters, optimizer=0.0, flops=flops
        )
    burst, prefill = (programs[name].time for name in ("burst", "prefill"))
    if not (burst and prefill):
        return tuple(programs.values()), None
    dialogues = settings.dialogues
    new = dialogues.turns * dialogues.max_tokens  # tokens that the model writes; the user's are about as many
    seconds = topology.chips * (new * burst.seconds / (slots * BURST) + 2 * new / CHUNK * prefill.seconds)
    return tuple(programs.values()), DecodingPlan(slots, slots * BURST / burst.seconds, seconds)
