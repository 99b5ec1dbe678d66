"""The plan of a training: its step, and what a step costs with the config's batch and with full rows."""

from __future__ import annotations

import functools
from collections.abc import Callable

from aloe_jax.data.pipeline import micro_batch_rows
from aloe_jax.ops.attention import BLOCK_SIZES, chosen
from aloe_jax.parallel.mesh import row_shards
from aloe_jax.parallel.sharding import bytes_per_chip
from aloe_jax.plan import workload as workloads
from aloe_jax.plan.compile import compile_step
from aloe_jax.plan.program import Target, compiled_figures, estimated
from aloe_jax.plan.records import Filled, Program, TrainingPlan
from aloe_jax.plan.roofline import step_flops
from aloe_jax.plan.settings import PlannedSettings, program_settings
from aloe_jax.plan.workload import Batch, Workload
from aloe_jax.settings import plain
from aloe_jax.train.forward import check_attention
from aloe_jax.train.objectives import OBJECTIVES, check_objective
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.state import abstract_state

STAGES = ("sft", "preference")


def plan_training(
    settings: PlannedSettings, stage: str, target: Target, workdir: str, progress: Callable[[str], None]
) -> tuple[Program, TrainingPlan]:
    """The step of a training stage, fed from the dataset of `workdir` or, if that is empty, from synthetic
    conversations. InputError for settings that make no step."""
    training, compute, capacity = settings.training(stage), settings.compute, settings.dataset.row
    model, topology, mesh = target.model, target.topology, target.mesh
    check_objective(training, stage)
    check_attention(capacity.tokens, compute.attention, mesh)
    objective = OBJECTIVES[training.objective]
    load = workloads.workload_of(settings, workdir, objective.chooses)
    batch = workloads.batch_of(load, capacity, training.batch, objective.unit, workloads.STEADY if load.assumed else 1)
    rows = micro_batch_rows(training.rows, mesh)
    micro_batches = -(-batch.rows // rows)
    progress(f"compiling {stage} for {topology.name}: {micro_batches} x {rows} rows of {capacity.tokens:,} tokens")
    key = {
        "compute": plain(compute),
        "stage": program_settings(training),
        "row": plain(capacity),
        "rows": rows,
        "micro_batches": micro_batches,
    }
    compile_it = functools.partial(compile_step, training, compute, capacity, model, mesh, rows, micro_batches)
    several = micro_batches if micro_batches > 1 else None  # their loop ends where the batch does
    found = compiled_figures(target, key, compile_it, several)
    state = abstract_state(model, make_optimizer(training, 1), mesh)
    attention = chosen(compute.attention, mesh)
    cut = BLOCK_SIZES.get(attention)  # dense computes the whole square
    pairs = workloads.running_pairs(load.rows, cut and cut(capacity.tokens))
    program = estimated(
        "step",
        found,
        topology,
        dtype=compute.dtype,
        parameters=bytes_per_chip((state.params, state.frozen)),
        optimizer=bytes_per_chip(state.opt_state),
        flops=step_flops(model, compute, capacity, attention, pairs, rows * micro_batches) / topology.chips,
    )
    room = workloads.fitting_batch(load, capacity, rows * micro_batches, objective.unit)
    configured, full = (_filled(one, micro_batches, load, target, program) for one in (batch, room))
    shared, unshared = (workloads.forward_flops(model, load, ours) for ours in (True, False))
    return program, TrainingPlan(
        load.description,
        rows,
        rows / row_shards(mesh),
        capacity.tokens,
        compute.kept,
        load.unshared_tokens / load.mean(0),
        configured,
        full,
        full.chip_seconds * unshared / shared if full.chip_seconds else None,
        load.epoch * training.epochs,
    )


def _filled(batch: Batch, micro_batches: int, load: Workload, target: Target, program: Program) -> Filled:
    """A step with that batch. Every micro-batch costs the same, full or not."""
    topology, seconds = target.topology, program.time.seconds if program.time else None
    cost, useful = None, None
    if seconds and batch.conversations:
        shared = workloads.forward_flops(target.model, load, shared=True)
        cost = topology.chips * seconds / batch.conversations
        useful = 3 * shared * batch.conversations / (seconds * topology.chips * topology.chip.flops)
    return Filled(
        batch.batch,
        batch.unit,
        batch.rows,
        micro_batches,
        batch.real_tokens,
        batch.conversations,
        seconds,
        cost,
        useful,
    )
