"""The plan of a round: rolling out trees with the engine and learning from them, on the same chips.

The trainer's state and the reference model stay where they are all the time. The engine has its copy of the parameters
and its pages while trees are rolled out, and gives both back before the update.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable

import jax

from aloe_jax.data.pipeline import micro_batch_rows, micro_batches_of
from aloe_jax.ops.attention import BLOCK_SIZES, chosen
from aloe_jax.parallel.sharding import bytes_per_chip
from aloe_jax.plan import rollouts
from aloe_jax.plan.compile import abstract_params, compile_pass, compile_step
from aloe_jax.plan.decoding import planned_engine
from aloe_jax.plan.program import Target, compiled_figures, estimated
from aloe_jax.plan.records import OnlinePlan, Program
from aloe_jax.plan.roofline import step_flops
from aloe_jax.plan.settings import PlannedSettings, program_settings
from aloe_jax.plan.workload import REPLY_TOKENS, SPREAD, USER_TOKENS, running_pairs
from aloe_jax.settings import plain
from aloe_jax.train.forward import check_attention
from aloe_jax.train.objectives import check_objective, objective_of
from aloe_jax.train.optimizer import make_optimizer
from aloe_jax.train.state import abstract_state

ONLINE = "online"
STEP, PASS = "step", "pass"


def plan_online(
    settings: PlannedSettings, target: Target, serving: Target, dtype: str, progress: Callable[[str], None]
) -> tuple[tuple[Program, ...], OnlinePlan]:
    """The programs of a round, and what it takes. `serving` is what the engine's programs are compiled for, in `dtype`.
    InputError for settings that make no round."""
    updates, compute, capacity, rounds = settings.updates, settings.compute, settings.dataset.row, settings.rounds
    model, topology, mesh = target.model, target.topology, target.mesh
    check_objective(updates, ONLINE)
    check_attention(capacity.tokens, compute.attention, mesh)
    trees, rng = rounds.trees(), random.Random(0)
    tries = [rollouts.laid_out(tree, rounds.max_tokens, rng) for tree in trees]
    learned = rollouts.learned(trees, tries, capacity, objective_of(updates).chooses)
    size = micro_batch_rows(updates.rows, mesh)
    micro_batches, used = micro_batches_of(learned.rows, size)

    state = abstract_state(model, make_optimizer(updates, 1), mesh)
    policy, moments = bytes_per_chip((state.params, state.frozen)), bytes_per_chip(state.opt_state)
    trainer = policy + moments
    reference = bytes_per_chip(abstract_params(dataclasses.replace(model, lora=None), mesh))
    attention = chosen(compute.attention, mesh)
    cut = BLOCK_SIZES.get(attention)  # dense computes the whole square
    pairs = running_pairs(learned.some, cut and cut(capacity.tokens))
    rows = {"rows": size, "micro_batches": micro_batches, "used": used}
    common = {"compute": plain(compute), "row": plain(capacity), **rows}

    def program(
        name: str, made_of: object, compile_it: Callable[..., jax.stages.Compiled], flops: float, own: float
    ) -> Program:
        """A program over the rows, with `own` bytes of optimiser state among its arguments."""
        progress(f"compiling {name} for {topology.name}: {used} x {size} rows of {capacity.tokens:,} tokens")
        compiled = functools.partial(compile_it, compute, capacity, model, mesh, size, micro_batches)
        several = used if micro_batches > 1 or name == PASS else None  # their loop ends where the batch does
        return estimated(
            name,
            compiled_figures(target, common | {name: made_of}, compiled, several),
            topology,
            dtype=compute.dtype,
            parameters=policy,
            optimizer=own,
            flops=flops / topology.chips,
            beside=reference + moments - own,
        )

    step = program(
        STEP,
        program_settings(updates),
        functools.partial(compile_step, updates),
        step_flops(model, compute, capacity, attention, pairs, size * used),
        moments,
    )
    scored = program(
        PASS,
        "by token",
        compile_pass,
        size * used * model.matmul_flops(capacity.tokens, pairs, capacity.targets),
        0.0,
    )
    engine = planned_engine(settings, serving, dtype, progress, beside=trainer + reference)
    sampled = rollouts.sampled(trees, tries, rounds, engine.slots, engine.chunks)
    return (step, scored, *engine.programs.values()), OnlinePlan(
        workload=(
            f"assumed: messages of {USER_TOKENS} and replies of {REPLY_TOKENS} tokens on average (+-{SPREAD:.0%}, a "
            f"tree's as a whole too), replies of {rounds.max_tokens} at most"
        ),
        rounds=rounds.count,
        trees=len(trees),
        batch=rounds.batch,
        replies=sampled.replies,
        tokens=sampled.tokens,
        at_once=sampled.at_once,
        slots=engine.slots,
        context=engine.shape.context,
        engine_mesh=dict(serving.mesh.shape),
        engine_dtype=dtype,
        steps=sampled.steps,
        prefills=sampled.prefills,
        learned=learned.replies,
        learned_tokens=learned.tokens,
        rows=learned.rows,
        room=size * used,
        row_tokens=capacity.tokens,
        micro_batches=used,
        trainer=trainer,
        reference=reference,
        engine=engine.parameters,
        pages=engine.pages,
        decoding_seconds=_times(engine.programs["burst"], sampled.steps),
        prefill_seconds=_times(engine.programs["prefill"], sampled.prefills),
        pass_seconds=_times(scored, 2),
        step_seconds=_times(step, 1),
    )


def _times(program: Program, runs: int) -> float | None:
    return runs * program.time.seconds if program.time else None
