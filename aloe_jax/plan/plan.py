"""`aloe plan`: will a stage fit a slice, and how long will it take, from its compiled program and the chip's figures.

Memory is the compiler's own figure. Times are estimates: nothing runs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from aloe_jax import files
from aloe_jax.data.pipeline import rows_a_micro_batch
from aloe_jax.decode.engine import BURST, CHUNK
from aloe_jax.errors import InputError
from aloe_jax.models.config import ModelConfig
from aloe_jax.ops.attention import BLOCK_SIZES, chosen
from aloe_jax.parallel.mesh import row_shards
from aloe_jax.parallel.sharding import bytes_per_chip
from aloe_jax.plan import workload as workloads
from aloe_jax.plan.compile import (
    Figures,
    abstract_params,
    cached,
    compile_decoding,
    compile_step,
    figures,
    planned_model,
    topology_mesh,
)
from aloe_jax.plan.flags import flags
from aloe_jax.plan.roofline import Roofline, roofline, step_flops
from aloe_jax.plan.topology import Topology, parse_topology
from aloe_jax.plan.workload import Batch, Workload
from aloe_jax.train.forward import Compute, check_attention
from aloe_jax.train.objectives import OBJECTIVES, check_settings
from aloe_jax.train.state import abstract_state, check_optimizer, make_optimizer
from aloe_jax.tree.row import Capacity

STAGES = ("sft", "preference", "benchmark")
TRAINING = ("sft", "preference")
# Settings of a training that its program is made from; what only changes its constants (learning rate, warm-up, weight
# decay) is not among them.
PROGRAM = (
    "objective",
    "ranking",
    "beta",
    "margin",
    "label_smoothing",
    "nll_weight",
    "gamma",
    "turn_weights",
    "turn_buckets",
    "entropy",
    "schedule",
    "clip_norm",
    "b1",
    "b2",
)


@dataclass(frozen=True)
class Memory:
    """Bytes of one chip. `available` is the chip's, or what the compiler said it may use where it refused."""

    parameters: float
    optimizer: float
    temporaries: float
    peak: float
    available: float

    @property
    def fits(self) -> bool:
        return self.peak <= self.available


@dataclass(frozen=True)
class Program:
    """One compiled program; `flops`, `hbm` and `received` (bytes by kind of collective) are of one chip and run."""

    name: str
    memory: Memory
    flops: float
    hbm: float
    received: Mapping[str, float]
    collectives: Mapping[str, int]
    time: Roofline | None  # None of a program that the compiler refused
    compile_seconds: float
    over: Mapping[str, float]  # `received` by the places along each axis that the chips of a group take up
    unbounded: Sequence[str]  # loops that count once because the module does not say how often they run


@dataclass(frozen=True)
class Filled:
    """A step with a batch of that size. Seconds, chip-seconds and useful share of the peak follow the estimate; None
    where there is none."""

    batch: int
    unit: str
    rows: int
    micro_batches: int
    real_tokens: float
    conversations: float
    seconds: float | None
    chip_seconds: float | None  # a conversation
    useful: float | None  # operations that the objective needs, over what the chips could do in that time

    @property
    def speed(self) -> float:
        """Real tokens a second; 0 without an estimate."""
        return self.real_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Training:
    """What a training step takes in."""

    workload: str
    rows: int  # a micro-batch
    rows_a_chip: float
    row_tokens: int
    remat: str
    sharing: float  # tokens of a sequence a reply over ours
    configured: Filled
    full: Filled  # the largest batch that the compiled rows hold
    unshared_chip_seconds: float | None  # a conversation as a sequence a reply, in rows as full and at the same speed


@dataclass(frozen=True)
class Decoding:
    """What the engine does at most."""

    slots: int
    tokens_a_second: float
    dialogue_seconds: float  # chip-seconds of a dialogue of the benchmark, its slots all busy


@dataclass(frozen=True)
class Plan:
    """The whole report; `to_json` and `to_text` say it."""

    stage: str
    topology: Topology
    mesh: Mapping[str, int]
    attention: str
    flags: str
    warnings: tuple[str, ...]
    programs: tuple[Program, ...]
    training: Training | None
    decoding: Decoding | None

    @property
    def fits(self) -> bool:
        return all(program.memory.fits for program in self.programs)


def make_plan(
    config: Mapping[str, Any],
    stage: str,
    topology_name: str,
    *,
    workdir: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> Plan:
    """The plan of one stage. Raises InputError for a config, stage or topology that makes no program."""
    if stage not in STAGES:
        raise InputError(f"--stage: '{stage}' cannot be planned; expected one of {', '.join(STAGES)}")
    topology = parse_topology(topology_name)
    model = planned_model(config)
    compute = Compute(**config["compute"])
    mesh = topology_mesh(topology, config["mesh"])
    attention = chosen(compute.attention, mesh)
    programs: tuple[Program, ...]
    training, decoding = None, None
    if stage == "benchmark":
        programs, decoding = _plan_decoding(config, model, topology, mesh, progress)
    else:
        _check(config, stage, mesh)
        program, training = _plan_training(config, stage, model, topology, mesh, workdir, progress)
        programs = (program,)
    warnings = tuple(_warnings(stage, attention, mesh, programs))
    return Plan(stage, topology, dict(mesh.shape), attention, flags(), warnings, programs, training, decoding)


def _warnings(stage: str, attention: str, mesh: Mesh, programs: Sequence[Program]) -> Iterator[str]:
    if stage != "benchmark" and attention != "pallas":
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


def _check(config: Mapping[str, Any], stage: str, mesh: Mesh) -> None:
    section = config[stage]
    if (objective := section["objective"]) not in OBJECTIVES:
        raise InputError(f"config.{stage}.objective: '{objective}' is unknown; choose one of {', '.join(OBJECTIVES)}")
    check_optimizer(section, stage)
    for key in ("batch", "rows"):
        if section[key] < 1:
            raise InputError(f"config.{stage}.{key}: {section[key]} must be at least 1")
    check_settings(OBJECTIVES[objective], section, stage)
    check_attention(config["dataset"]["row"]["tokens"], config["compute"]["attention"], mesh)


def _plan_training(
    config: Mapping[str, Any],
    stage: str,
    model: ModelConfig,
    topology: Topology,
    mesh: Mesh,
    workdir: str,
    progress: Callable[[str], None],
) -> tuple[Program, Training]:
    section, capacity = config[stage], Capacity(**config["dataset"]["row"])
    unit = OBJECTIVES[section["objective"]].unit
    load = workloads.workload_of(config, workdir, capacity, unit)
    batch = workloads.batch_of(load, capacity, section["batch"], unit, workloads.STEADY if load.assumed else 1)
    rows = rows_a_micro_batch(section["rows"], mesh)
    micro_batches = -(-batch.rows // rows)
    progress(f"compiling {stage} for {topology.name}: {micro_batches} x {rows} rows of {capacity.tokens:,} tokens")
    key = _key(model, topology, mesh) | {
        "compute": config["compute"],
        "stage": {name: section[name] for name in PROGRAM if name in section},
        "row": config["dataset"]["row"],
        "rows": rows,
        "micro_batches": micro_batches,
    }
    several = micro_batches if micro_batches > 1 else None  # their loop ends where the batch does
    compiled = cached(
        key, lambda: figures(compile_step(config, stage, model, mesh, rows, micro_batches), mesh, several)
    )
    state = abstract_state(model, make_optimizer(section, 1), mesh)
    memory = _memory(compiled, topology, bytes_per_chip((state.params, state.frozen)), bytes_per_chip(state.opt_state))
    attention = chosen(config["compute"]["attention"], mesh)
    cut = BLOCK_SIZES.get(attention)  # dense computes the whole square
    pairs = workloads.running_pairs(load.rows, cut and cut(capacity.tokens))
    flops = step_flops(model, config, attention, pairs, rows * micro_batches) / topology.chips
    program = _program("step", compiled, memory, flops, topology)
    room = workloads.fitting_batch(load, capacity, rows * micro_batches, unit)
    configured, full = (_filled(one, micro_batches, load, model, program, topology) for one in (batch, room))
    shared, unshared = (workloads.forward_flops(model, load, ours) for ours in (True, False))
    training = Training(
        load.description,
        rows,
        rows / row_shards(mesh),
        capacity.tokens,
        config["compute"]["remat"],
        load.unshared_tokens / load.mean(0),
        configured,
        full,
        full.chip_seconds * unshared / shared if full.chip_seconds else None,
    )
    return program, training


def _filled(
    batch: Batch, micro_batches: int, load: Workload, model: ModelConfig, program: Program, topology: Topology
) -> Filled:
    """Every micro-batch costs the same, full or not."""
    seconds = program.time.seconds if program.time else None
    cost, useful = None, None
    if seconds and batch.conversations:
        shared = workloads.forward_flops(model, load, shared=True)
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


def _key(model: ModelConfig, topology: Topology, mesh: Mesh) -> dict[str, Any]:
    """What every program depends on: the model itself, wherever its sizes came from."""
    return {"model": repr(model), "mesh": dict(mesh.shape), "topology": topology.name, "flags": flags()}


def _plan_decoding(
    config: Mapping[str, Any],
    model: ModelConfig,
    topology: Topology,
    mesh: Mesh,
    progress: Callable[[str], None],
) -> tuple[tuple[Program, ...], Decoding | None]:
    slots, context = config["serve"]["slots"], min(config["serve"]["context"], model.context)
    tokens = {"prefill": CHUNK, "burst": slots * BURST}
    states = {"prefill": 0, "burst": slots * BURST}
    key = _key(model, topology, mesh) | {"slots": slots, "context": context}
    parameters = bytes_per_chip(abstract_params(model, mesh))
    programs = {}
    for name, compile_it in compile_decoding(config, model, mesh).items():
        progress(f"compiling {name} for {topology.name}")
        compiled = cached({**key, "program": name}, functools.partial(figures, compile_it, mesh))
        flops = model.matmul_flops(tokens[name], 0, states[name]) / topology.chips
        # A slot's attention runs over its whole place in the cache, on every chip that holds its heads.
        flops += model.matmul_flops(0, tokens[name] * context, 0) / mesh.shape["tensor"]
        programs[name] = _program(name, compiled, _memory(compiled, topology, parameters, 0.0), flops, topology)
    burst, prefill = (programs[name].time for name in ("burst", "prefill"))
    if not (burst and prefill):
        return tuple(programs.values()), None
    section = config["benchmark"]
    new = section["turns"] * section["max_tokens"]  # tokens that the model writes; the user's are about as many
    dialogue = topology.chips * (new * burst.seconds / (slots * BURST) + 2 * new / CHUNK * prefill.seconds)
    return tuple(programs.values()), Decoding(slots, slots * BURST / burst.seconds, dialogue)


def _memory(compiled: Figures, topology: Topology, parameters: float, optimizer: float) -> Memory:
    """Of a program that was refused the compiler tells only what it needs; what of that is neither parameters nor
    optimiser counts as temporaries."""
    if compiled.compiled:
        return Memory(parameters, optimizer, compiled.temporaries, compiled.needed, float(topology.chip.hbm))
    beyond = max(0.0, compiled.needed - parameters - optimizer)
    return Memory(parameters, optimizer, beyond, compiled.needed, compiled.available)


def _program(name: str, compiled: Figures, memory: Memory, flops: float, topology: Topology) -> Program:
    time = roofline(flops, compiled.hbm, compiled.over, topology) if compiled.compiled else None
    return Program(
        name,
        memory,
        flops,
        compiled.hbm,
        compiled.received,
        compiled.runs,
        time,
        compiled.seconds,
        compiled.over,
        compiled.unbounded,
    )


def write_plan(plan: Plan, path: str, found: Sequence[tuple[dict[str, Any], Plan]] = ()) -> None:
    """The report as JSON, and under `search` those of all that a search tried, each with its settings."""
    searched = [{"settings": settings} | to_json(one) for settings, one in found]
    files.write_json(path, to_json(plan) | ({"search": searched} if searched else {}))


def to_json(plan: Plan) -> dict[str, Any]:
    """The report as plain values; bytes, seconds and operations in units of one."""
    programs = [
        dataclasses.asdict(program)
        | {
            "memory": dataclasses.asdict(program.memory) | {"fits": program.memory.fits},
            "time": _time(program.time) if program.time else None,
        }
        for program in plan.programs
    ]
    return {
        "estimate": True,
        "stage": plan.stage,
        "topology": plan.topology.name,
        "chips": plan.topology.chips,
        "chip": dataclasses.asdict(plan.topology.chip),
        "interconnect_bandwidth": plan.topology.bandwidth,
        "mesh": dict(plan.mesh),
        "attention": plan.attention,
        "libtpu_init_args": plan.flags,
        "warnings": list(plan.warnings),
        "fits": plan.fits,
        "programs": programs,
        "training": dataclasses.asdict(plan.training) if plan.training else None,
        "decoding": dataclasses.asdict(plan.decoding) if plan.decoding else None,
    }


def _time(time: Roofline) -> dict[str, Any]:
    derived = {"seconds": time.seconds, "one_by_one": time.one_by_one, "bound": time.bound}
    return dataclasses.asdict(time) | derived
