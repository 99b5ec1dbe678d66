"""`aloe plan`: does a stage fit a slice, and how long does it take, from its compiled program and the chip's figures.

Memory is the compiler's own figure. Times are estimates: nothing runs.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from jax.sharding import Mesh

from aloe_jax.errors import InputError
from aloe_jax.ops.attention import AUTO, chosen
from aloe_jax.plan import training
from aloe_jax.plan.compile import planned_model, topology_mesh
from aloe_jax.plan.decoding import plan_decoding
from aloe_jax.plan.flags import add_flags, flags, libtpu_flags
from aloe_jax.plan.online import ONLINE, plan_online
from aloe_jax.plan.program import Target
from aloe_jax.plan.records import DecodingPlan, OnlinePlan, Plan, Program, TrainingPlan
from aloe_jax.plan.remat import decide_remat
from aloe_jax.plan.settings import PlannedSettings
from aloe_jax.plan.topology import parse_topology

BENCHMARK = "benchmark"
STAGES = (*training.STAGES, ONLINE, BENCHMARK)


def make_plan(
    settings: PlannedSettings,
    stage: str,
    topology_name: str,
    *,
    workdir: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> Plan:
    """The plan of one stage. Raises InputError for settings, a stage or a topology that make no program."""
    if stage not in STAGES:
        raise InputError(f"--stage: '{stage}' cannot be planned; expected one of {', '.join(STAGES)}")
    topology = parse_topology(topology_name)
    decided = decide_remat(settings.sections, topology.chip.name)
    settings = settings.replaced(**decided.settings)
    if decided.line:
        progress(decided.line)
    model = planned_model(settings.model, settings.lora)
    added = add_flags(libtpu_flags(topology.chip.name, settings.sections))
    if added.kept:
        progress(added.line())
    decoding = settings.decode.dtype_on("tpu") if stage in (ONLINE, BENCHMARK) else ""
    if stage == BENCHMARK:
        mesh = topology_mesh(topology, settings.decode.mesh, "config.decode.mesh")
        dtype, attention = decoding, chosen(AUTO, mesh)
    else:
        mesh = topology_mesh(topology, settings.mesh)
        dtype, attention = settings.compute.dtype, chosen(settings.compute.attention, mesh)
    target = Target(model, topology, mesh)
    programs: tuple[Program, ...]
    trained: TrainingPlan | None = None
    decoded: DecodingPlan | None = None
    rounds: OnlinePlan | None = None
    if stage == ONLINE:
        over = topology_mesh(topology, settings.decode.mesh, "config.decode.mesh")
        serving = Target(replace(model, lora=None), topology, over)
        programs, rounds = plan_online(settings, target, serving, decoding, progress)
    elif stage == BENCHMARK:
        programs, decoded = plan_decoding(settings, target, dtype, progress)
    else:
        program, trained = training.plan_training(settings, stage, target, workdir, progress)
        programs = (program,)
    warnings = tuple(_warnings(stage, attention, mesh, programs))
    return Plan(
        stage, topology, dict(mesh.shape), attention, dtype, flags(), warnings, programs, trained, decoded, rounds
    )


def _warnings(stage: str, attention: str, mesh: Mesh, programs: Sequence[Program]) -> Iterator[str]:
    if stage != BENCHMARK and attention != "pallas":
        yield f"config.compute.attention is '{attention}', not the TPU kernel: slow; set it to auto"
    if mesh.shape["replica"] > 1:
        yield (
            f"config.mesh.replica is {mesh.shape['replica']}: its copies are planned inside this one slice, over "
            "its own links; slices joined by a network cannot be stated, and what they exchange takes longer there"
        )
    for program in programs:
        if program.unbounded:
            named = ", ".join(program.unbounded[:3]) + (", ..." if len(program.unbounded) > 3 else "")
            yield (
                f"{len(program.unbounded)} loops of the {program.name} do not say how often they run ({named}): what "
                "they move counts once, so HBM traffic and interconnect are too low"
            )
        if program.unread:
            yield (
                f"the module of the {program.name} that jaxlib {importlib.metadata.version('jaxlib')} compiled cannot "
                f"be read ({program.unread}): its traffic is unknown, interconnect counts as 0 and HBM traffic as the "
                "compiler's own figure, which takes a loop once, so the estimate is too low; install a version that "
                "this package was tried with"
            )
