"""Which computations of a module run, and how often."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from aloe_jax.plan.hlo.module import Computation, Instruction, Module, UnreadableModuleError, called_by, root_of


class Visit(NamedTuple):
    """A computation that runs: how often, the name of the fusion it is part of, and the channels counted in the same
    place, a set that a computation shares with its fusions."""

    computation: Computation
    times: float
    fused: str
    counted: set[str]


@dataclass(frozen=True)
class Unstated:
    """Loops whose bound the module does not state: those inside no other loop, and those inside one."""

    outer: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)


def visits(
    module: Module,
    name: str,
    unknown_trips: float | None,
    unstated: Unstated,
    times: float = 1,
    fused: str = "",
    counted: set[str] | None = None,
    inside_loop: bool = False,
) -> Iterator[Visit]:
    """Everything that runs, from computation `name` on. Loops without a stated bound are added to `unstated`; the
    outermost ones run `unknown_trips` times. UnreadableModuleError if a computation that runs is not there."""
    if name not in module.computations:
        raise UnreadableModuleError(f"the computation {name} is called but not found")
    computation = module.computations[name]
    counted = set() if counted is None else counted
    yield Visit(computation, times, fused, counted)
    for instruction in computation.values():
        called = re.findall(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)", instruction.rest)
        branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.rest)
        called += re.findall(r"[\w.-]+", branches[1]) if branches else []
        opcode, inner = instruction.opcode, times
        if opcode == "while":
            trips: float | None = trip_count(module, instruction)
            if trips is None:
                (unstated.inner if inside_loop else unstated.outer).append(instruction.name)
                trips = 1 if inside_loop or unknown_trips is None else unknown_trips
            inner *= trips
        elif opcode not in ("fusion", "call", "conditional", "async-start"):
            continue  # what a reduction or a sort does with two elements moves nothing
        part = fused or (f"{name}/{called[0]}" if opcode == "fusion" and called else "")
        here = counted if opcode == "fusion" else None
        for other in called:
            looped = inside_loop or opcode == "while"
            yield from visits(module, other, unknown_trips, unstated, inner, part, here, looped)


def trip_count(module: Module, loop: Instruction) -> int | None:
    """How often a loop runs: as XLA noted it, else from a condition `counter < constant`, possibly in a fusion,
    counting from 0 by 1 as JAX's loops do; None if neither is there."""
    noted = re.search(r'known_trip_count[^}]*?"n":"?(\d+)', loop.rest)
    if noted:
        return int(noted[1])
    condition = re.search(r"condition=%?([\w.-]+)", loop.rest)
    outside = module.computations.get(condition[1], {}) if condition else {}
    root, inside = root_of(outside), outside
    given: tuple[str, ...] = ()
    if root and root.opcode == "fusion":
        inside, given = called_by(module, root), root.operands
        root = root_of(inside)
    if root and root.opcode == "compare" and "direction=LT" in root.rest:
        bound = inside.get(root.operands[1])
        if bound and bound.opcode == "parameter" and given:
            bound = outside.get(given[int(bound.rest)])
        if bound and bound.opcode == "constant" and re.fullmatch(r"\d+", bound.rest):
            return int(bound.rest)
    return None
