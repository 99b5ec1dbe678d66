"""The report of `aloe plan` as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aloe_jax.launch.plan import Decoding, Memory, Plan, Program, Training
from aloe_jax.parallel.mesh import shape_in_words

FIRST_LINE = (
    "All times are estimates: the program was compiled for this slice, not run. Memory is the compiler's figure."
)
GIB = 2**30


def to_text(plan: Plan) -> str:
    """Lines of at most about 120 characters; the first says that times are estimates."""
    return "\n".join(_lines(plan))


def search_text(found: list[tuple[dict[str, Any], Plan]]) -> str:
    """A line for each compilation of a search, the best first."""
    lines = [FIRST_LINE, "", f"{'settings':<58} {'HBM a chip':>12}  {'tokens/s':>9}  fits"]
    for settings, plan in found:
        assert plan.training
        full, memory = plan.training.full, plan.programs[0].memory
        speed = full.real_tokens / full.seconds if plan.fits and full.seconds else 0.0
        names = " ".join(f"--{name}={value}" for name, value in settings.items())
        needed = f"{memory.peak / GIB:.1f} GiB"
        lines.append(
            f"{names:<58} {needed:>12}  {f'{speed:,.0f}' if speed else '-':>9}  {'yes' if plan.fits else 'no'}"
        )
    return "\n".join(lines)


def _lines(plan: Plan) -> Iterator[str]:
    topology = plan.topology
    yield FIRST_LINE
    yield ""
    chips = f"{topology.chips} chips as {shape_in_words(plan.mesh)}"
    yield f"{plan.stage} on {topology.name}: {chips}, attention {plan.attention}"
    if plan.flags:
        yield f"compiled with LIBTPU_INIT_ARGS='{plan.flags}'; set the same for the run"
    yield from (f"warning: {warning}" for warning in plan.warnings)
    for program in plan.programs:
        yield ""
        yield from _program(program)
    if plan.training:
        yield ""
        yield from _training(plan.training, plan.fits)
    if plan.decoding and plan.fits:
        yield ""
        yield from _decoding(plan.decoding)
    yield ""
    chip = topology.chip
    yield (
        f"{chip.name}: {chip.hbm / GIB:.2f} GiB at {chip.hbm_bandwidth / 1e9:,.0f} GB/s, {chip.flops / 1e12:.0f} "
        f"TFLOP/s bf16, {topology.bandwidth / 1e9:.0f} GB/s into the chip with the fewest links ({chip.source})"
    )


def _program(program: Program) -> Iterator[str]:
    yield f"{program.name}, a chip (compiled in {program.compile_seconds:.0f} s)"
    yield from _memory(program.memory)
    if not program.memory.fits:
        return
    time = program.time
    received = sum(program.received.values())
    yield f"  operations      {program.flops / 1e12:10.4g} TFLOP {time.compute:10.3g} s"
    yield f"  HBM traffic     {program.hbm / 1e9:10.4g} GB    {time.memory:10.3g} s"
    yield f"  interconnect    {received / 1e9:10.4g} GB    {time.interconnect:10.3g} s"
    for kind, size in sorted(program.received.items(), key=lambda item: -item[1]):
        yield f"    {kind:<18} {size / 1e9:8.4g} GB in {program.collectives[kind]:,} runs"
    yield f"  estimate {time.seconds:.3g} s, bound by {time.bound}; {time.one_by_one:.3g} s if nothing overlapped"


def _memory(memory: Memory) -> Iterator[str]:
    verdict = "fits" if memory.fits else "DOES NOT FIT"
    yield f"  HBM             {memory.peak / GIB:10.2f} of {memory.available / GIB:.2f} GiB: {verdict}"
    parts: Mapping[str, float] = {"parameters": memory.parameters, "optimiser": memory.optimizer}
    if memory.temporaries:
        parts = {**parts, "temporaries": memory.temporaries}
    yield "    " + ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())


def _training(training: Training, fits: bool) -> Iterator[str]:
    yield (
        f"step: {training.rows} rows a micro-batch ({training.rows_a_chip:g} a row shard) of {training.row_tokens:,} "
        f"tokens, remat {training.remat}"
    )
    yield f"  {training.workload}"
    yield f"  a sequence a reply would have {training.sharing:.1f} times the tokens"
    for name, filled in (("the config's batch", training.configured), ("rows filled", training.full)):
        capacity = filled.micro_batches * training.rows * training.row_tokens
        yield (
            f"  {name}: {filled.batch} {filled.unit}, {filled.real_tokens:,.0f} real tokens a step in "
            f"{filled.micro_batches} micro-batches ({filled.real_tokens / capacity:.0%} of their room)"
        )
        if fits:
            yield (
                f"    {filled.real_tokens / filled.seconds:,.0f} real tokens/s; a conversation "
                f"{filled.chip_seconds:.3g} chip-seconds; {filled.useful:.0%} of the peak is useful"
            )
    if fits:
        yield f"    a conversation as a sequence a reply, rows full: {training.unshared_chip_seconds:.3g} chip-seconds"


def _decoding(decoding: Decoding) -> Iterator[str]:
    yield (
        f"engine: {decoding.slots} slots, {decoding.tokens_a_second:,.0f} tokens/s when all are busy; "
        f"{decoding.dialogue_seconds:.2f} chip-seconds a dialogue"
    )


def price_line(plan: Plan, price: float) -> str:
    """What a step and a conversation cost at `price` dollars a chip and hour."""
    assert plan.training
    full = plan.training.full
    dollars = lambda seconds: seconds / 3600 * price  # noqa: E731
    return (
        f"at {price:g} USD a chip and hour: {dollars(full.seconds * plan.topology.chips):.4f} USD a step, "
        f"{dollars(full.chip_seconds) * 1000:.3f} USD a thousand conversations, as a sequence a reply "
        f"{dollars(plan.training.unshared_chip_seconds) * 1000:.3f}"
    )
