"""Bytes between chips by kind of collective, and bytes to and from HBM."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from aloe_jax.plan.hlo.collectives import COLLECTIVES, received
from aloe_jax.plan.hlo.hbm import hbm_bytes
from aloe_jax.plan.hlo.module import Module, Shape, UnreadableModuleError, parse, shapes_of
from aloe_jax.plan.hlo.visits import Unstated, visits

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Collective:
    """A collective of a module, over one run of it on one chip."""

    kind: str
    shapes: tuple[Shape, ...]  # of results and operands
    runs: int
    received: float  # bytes that reach the chip over the interconnect, in all runs
    members: tuple[int, ...]  # one group of chips that take part; one chip alone where a message takes a single path
    beside: bool = False  # whether it runs while the chip computes something else


@dataclass(frozen=True)
class Traffic:
    """What one chip moves in one run of a module."""

    collectives: tuple[Collective, ...]
    hbm: float  # bytes read and written
    unbounded: tuple[str, ...]  # loops whose bound the module does not state: how often they run is a guess

    @property
    def received(self) -> dict[str, float]:
        """Bytes that reach the chip by kind of collective."""
        return self._sums(lambda one: one.kind)

    @property
    def over(self) -> dict[tuple[int, ...], float]:
        """The same by the chips that take part."""
        return self._sums(lambda one: one.members)

    @property
    def beside(self) -> float:
        """Bytes of `received` that arrive in collectives beside which the chip computes."""
        return sum(one.received for one in self.collectives if one.beside)

    @property
    def runs(self) -> dict[str, int]:
        """How often each kind runs."""
        counts: Counter[str] = Counter()
        for one in self.collectives:
            counts[one.kind] += one.runs
        return dict(counts)

    def _sums(self, key: Callable[[Collective], K]) -> dict[K, float]:
        sums: defaultdict[K, float] = defaultdict(float)
        for one in self.collectives:
            sums[key(one)] += one.received
        return dict(sums)


def traffic_of(text: str, unknown_trips: float | None = None) -> Traffic:
    """What a compiled function moves, from its text (`compiled.as_text()`). `unknown_trips` is how often the one
    outermost loop runs whose bound the module does not state, such as that over micro-batches; None if there is no such
    loop. Any other loop without a bound counts once and is named in the result.

    Raises UnreadableModuleError for a text of another form.
    """
    try:
        return _traffic(parse(text), unknown_trips)
    except UnreadableModuleError:
        raise
    except (ValueError, LookupError, RecursionError) as error:  # what the parser makes of a text that XLA prints anew
        raise UnreadableModuleError(f"{type(error).__name__}: {error}") from error


def _traffic(module: Module, unknown_trips: float | None) -> Traffic:
    collectives: list[Collective] = []
    hbm = 0.0
    unstated, beside = Unstated(), _channels_beside(module)
    for computation, times, fused, counted in visits(module, module.entry, unknown_trips, unstated):
        for instruction in computation.values():
            if not fused:
                hbm += times * hbm_bytes(module, computation, instruction)
            kind = instruction.opcode.removesuffix("-start")
            channel = re.search(r"channel_id=(\d+)", instruction.rest)
            if kind in COLLECTIVES and not (channel and channel[1] in counted):
                if kind == "all-reduce" and "all-reduce-scatter" in fused:
                    kind = "reduce-scatter"  # fused with the slice that a chip keeps; all of them have one channel
                elif channel:
                    counted.add(channel[1])
                bytes_each, members = received(module, computation, instruction, kind)
                shapes = instruction.shapes + shapes_of(computation, instruction.operands)
                started = instruction.opcode.endswith("-start") or bool(channel and channel[1] in beside)
                collectives.append(Collective(kind, shapes, round(times), times * bytes_each, members, started))
    expected = 0 if unknown_trips is None else 1
    unbounded = unstated.inner + unstated.outer * (len(unstated.outer) > expected)
    return Traffic(tuple(collectives), hbm, tuple(unbounded))


def _channels_beside(module: Module) -> set[str]:
    """The channels of collectives of which the compiler made part of a fusion that also computes: it gives those
    fusions this name, and the collective's start and end stand in fusions of their own."""
    found: set[str] = set()
    for name, computation in module.computations.items():
        if name.startswith("async_collective_fusion"):
            for instruction in computation.values():
                if channel := re.search(r"channel_id=(\d+)", instruction.rest):
                    found.add(channel[1])
    return found
