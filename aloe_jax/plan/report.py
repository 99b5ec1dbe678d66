"""The report of `aloe plan` as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import jax.numpy as jnp

from aloe_jax.ops.precision import HIGHEST, PASSES
from aloe_jax.parallel.chips import GIB
from aloe_jax.parallel.mesh import shape_in_words
from aloe_jax.plan.records import Candidate, DecodingPlan, OnlinePlan, Plan, Program, TrainingPlan
from aloe_jax.plan.topology import Topology

FIRST_LINE = (
    "All times are estimates: the program was compiled for this slice, not run. Memory is the compiler's figure."
)


def to_text(plan: Plan) -> str:
    """The report in lines of about 120 characters or fewer; the first says that times are estimates."""
    return "\n".join(_lines(plan))


def search_text(found: Sequence[Candidate]) -> str:
    """Two lines per compilation of a search, the best first: what it gives, and the settings that `aloe run` needs for
    it."""
    lines = [FIRST_LINE, "", f"{'HBM per chip':>12}  {'tokens/s':>9}  {'batch':>16}  {'rows':>4}  {'remat':<9}  fits"]
    for candidate in found:
        plan = candidate.plan
        assert plan.training
        full, training, memory = plan.training.full, plan.training, plan.programs[0].memory
        needed, batch = f"{memory.peak / GIB:.1f} GiB", f"{full.batch:,} {full.unit}"
        speed = f"{full.speed:,.0f}" if full.speed else "-"
        verdict = "yes" if plan.fits else "no"
        lines += [
            f"{needed:>12}  {speed:>9}  {batch:>16}  {training.rows:>4}  {training.remat:<9}  {verdict}",
            "  " + " ".join(f"--{name}={value}" for name, value in candidate.settings.items()),
        ]
    return "\n".join(lines)


def _lines(plan: Plan) -> Iterator[str]:
    topology = plan.topology
    yield FIRST_LINE
    yield ""
    chips = f"{topology.chips} chips as {shape_in_words(plan.mesh)}"
    yield f"{plan.stage} on {topology.name}: {chips}, attention {plan.attention}"
    passes = PASSES[jnp.dtype(plan.dtype)]
    exact = f"at precision {HIGHEST}: {passes} passes" if passes > 1 else "1 pass"
    yield f"computed in {plan.dtype}, {exact} of the matrix unit per product"
    if plan.flags:
        yield f"compiled with LIBTPU_INIT_ARGS='{plan.flags}', as `aloe run` sets it on TPUs"
    yield from (f"warning: {warning}" for warning in plan.warnings)
    for program in plan.programs:
        yield ""
        yield from _program(program, topology)
    if plan.training:
        yield ""
        yield from _training(plan.training, plan.fits)
    if plan.online:
        yield ""
        yield from _online(plan, plan.online)
    if plan.decoding and plan.fits:
        yield ""
        yield from _decoding(plan.decoding)
    yield ""
    chip = topology.chip
    yield (
        f"{chip.name}: {chip.hbm / GIB:.2f} GiB at {chip.hbm_bandwidth / 1e9:,.0f} GB/s, {chip.flops / 1e12:.0f} "
        f"TFLOP/s bf16, {topology.bandwidth / 1e9:.0f} GB/s into the chip with the fewest links ({chip.source})"
    )


def _program(program: Program, topology: Topology) -> Iterator[str]:
    yield f"{program.name}, per chip (compiled in {program.compile_seconds:.0f} s)"
    yield from _memory(program)
    time = program.time
    if time is None:
        return
    received = sum(program.received.values())
    yield f"  operations      {program.flops / 1e12:10.4g} TFLOP {time.compute:10.3g} s"
    yield f"  HBM traffic     {program.hbm / 1e9:10.4g} GB    {time.memory:10.3g} s"
    exchanged = f"{received / 1e9:10.4g} GB    {time.interconnect:10.3g} s"
    yield f"  interconnect    {'   unknown' if program.unread else exchanged}"
    for kind, size in sorted(program.received.items(), key=lambda item: -item[1]):
        yield f"    {kind:<18} {size / 1e9:8.4g} GB in {program.collectives[kind]:,} runs"
    yield from _groups(program.over, topology)
    if received:
        yield f"    {program.beside / received:.0%} of it in collectives beside which the chip computes"
    yield f"  estimate {time.seconds:.3g} s, bound by {time.bound}; {time.one_by_one:.3g} s if nothing overlapped"


def _groups(over: Mapping[str, float], topology: Topology) -> Iterator[str]:
    """Lines on groups of fewer chips than all: what they exchange, and how fast."""
    for extents, size in over.items():
        places = [int(taken) for taken in extents.split("x")]
        if math.prod(places) < topology.chips and size:
            group = "among " + "x".join(map(str, places[: len(topology.shape)])) if max(places) > 1 else "chip to chip"
            speed = topology.bandwidth_over(places) / 1e9
            yield f"    {group:<18} {size / 1e9:8.4g} GB of it at {speed:.0f} GB/s"


def _memory(program: Program) -> Iterator[str]:
    memory = program.memory
    verdict = "fits" if memory.fits else "DOES NOT FIT"
    yield f"  HBM             {memory.total / GIB:10.2f} of {memory.available / GIB:.2f} GiB: {verdict}"
    parts = {"parameters": memory.parameters, "optimiser": memory.optimizer}
    # Of a program that the compiler refused they are not known apart.
    parts["temporaries" if memory.peak <= memory.available else "temporaries at least"] = memory.temporaries
    if memory.beside:
        parts["beside the program"] = memory.beside
    yield "    " + ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())


def _training(training: TrainingPlan, fits: bool) -> Iterator[str]:
    yield (
        f"step: {training.rows} rows per micro-batch ({training.rows_a_chip:g} per row shard) of "
        f"{training.row_tokens:,} tokens, remat {training.remat}"
    )
    yield f"  {training.workload}"
    yield f"  one sequence per reply would have {training.sharing:.1f} times the tokens"
    for name, filled in (("the config's batch", training.configured), ("rows filled", training.full)):
        capacity = filled.micro_batches * training.rows * training.row_tokens
        yield (
            f"  {name}: {filled.batch} {filled.unit}, {filled.real_tokens:,.0f} real tokens per step in "
            f"{filled.micro_batches} micro-batches ({filled.real_tokens / capacity:.0%} of their room)"
        )
        if fits and filled.chip_seconds and filled.useful:
            yield (
                f"    {filled.speed:,.0f} real tokens/s; a conversation {filled.chip_seconds:.3g} chip-seconds; "
                f"{filled.useful:.0%} of the peak is useful"
            )
    if fits and training.seconds is not None:
        taken = f"{training.conversations:,} conversations with the config's batch"
        yield f"  the whole training, {taken}: {_hours(training.seconds)}"
    if fits and training.unshared_chip_seconds:
        cost = f"{training.unshared_chip_seconds:.3g} chip-seconds"
        yield f"    a conversation as one sequence per reply, rows full: {cost}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} hours"


def _decoding(decoding: DecodingPlan) -> Iterator[str]:
    yield (
        f"engine: {decoding.slots} sequences of {decoding.context:,} tokens; at most {decoding.tokens_a_second:,.0f} "
        f"tokens/s, {decoding.tokens_a_second / decoding.chips:,.0f} per chip; "
        f"{decoding.dialogue_seconds:.2f} chip-seconds per dialogue"
    )
    yield (
        f"  a step moves {decoding.step_bytes / 1e9:.3f} GB of HBM per chip, "
        f"{decoding.step_bytes / decoding.least_bytes:.2f} times the least (weights and live pages once, "
        f"{decoding.least_bytes / 1e9:.3f} GB)"
    )


def _online(plan: Plan, online: OnlinePlan) -> Iterator[str]:
    empty = f", so {online.idle} of {online.slots} slots stay empty" if online.idle else ""
    yield f"round: {online.trees} trees in batches of {online.batch}; {online.workload}"
    yield (
        f"  sampled: {online.replies:,} replies, {online.tokens:,} tokens, {online.at_once} at once at most{empty}; "
        f"{online.steps:,} steps of decoding, {online.prefills:,} prefills"
    )
    yield (
        f"  learned from: {online.learned:,} replies, {online.learned_tokens:,} tokens in {online.rows} of "
        f"{online.room} rows of {online.row_tokens:,} in {online.micro_batches} micro-batches"
    )
    held = {"trainer": online.trainer, "reference": online.reference}
    held |= {"and while decoding engine": online.engine, "pages": online.pages}
    yield "  on each chip, GiB: " + ", ".join(f"{name} {size / GIB:.2f}" for name, size in held.items())
    yield (
        f"  engine: {online.slots} sequences of {online.context:,} tokens in {online.engine_dtype} on "
        f"{shape_in_words(online.engine_mesh)}"
    )
    if not plan.fits or online.seconds is None:
        return
    bounds = {program.name: program.time.bound for program in plan.programs if program.time}
    yield (
        f"  rollout {online.rollout_seconds:.3g} s: decoding {online.decoding_seconds:.3g} s (bound by "
        f"{bounds['burst']}), prefill {online.prefill_seconds:.3g} s ({bounds['prefill']}); the other roles take theirs"
    )
    yield (
        f"  update {online.update_seconds:.3g} s: passes of policy and reference {online.pass_seconds:.3g} s (bound by "
        f"{bounds['pass']}), step {online.step_seconds:.3g} s ({bounds['step']})"
    )
    yield f"  {online.rounds:,} rounds: {_hours(online.rounds * online.seconds)}"


def verdict_line(plan: Plan) -> str:
    """A line on a plan that fits: the memory of its largest program, and the shortest time of each."""
    memory = max((program.memory for program in plan.programs), key=lambda memory: memory.total)
    times = ", ".join(f"{program.name} {program.time.seconds:.3g} s" for program in plan.programs if program.time)
    return (
        f"plan: {plan.stage} fits {plan.topology.name} with {memory.total / GIB:.2f} of {memory.available / GIB:.2f} "
        f"GiB per chip; at least (an estimate): {times}"
    )


def price_line(plan: Plan, price: float) -> str:
    """A line on what a plan that fits costs at `price` dollars per chip-hour: a step, a conversation and the whole
    training, a round and all of them, or a dialogue of the benchmark and what the engine writes."""
    dollars = lambda seconds: seconds / 3600 * price  # noqa: E731
    start = f"at {price:g} USD per chip-hour: "
    if plan.decoding:
        million = plan.topology.chips * 1e6 / plan.decoding.tokens_a_second
        dialogue = dollars(plan.decoding.dialogue_seconds) * 1000
        return f"{start}{dialogue:.3f} USD per thousand dialogues, {dollars(million):.3f} USD per million tokens"
    if plan.online:
        seconds, count = plan.online.seconds, plan.online.rounds
        assert seconds is not None
        one = dollars(seconds * plan.topology.chips)
        return f"{start}{one:.4f} USD per round, {count} rounds {count * one:,.2f} USD in {_hours(count * seconds)}"
    assert plan.training
    full, unshared = plan.training.full, plan.training.unshared_chip_seconds
    whole = plan.training.seconds
    assert whole is not None
    assert full.seconds
    assert full.chip_seconds
    assert unshared
    return (
        f"{start}{dollars(full.seconds * plan.topology.chips):.4f} USD per step, "
        f"{dollars(full.chip_seconds) * 1000:.3f} USD per thousand conversations, as one sequence per reply "
        f"{dollars(unshared) * 1000:.3f}; the whole training with the config's batch "
        f"{dollars(whole * plan.topology.chips):,.2f} USD in {_hours(whole)}"
    )
