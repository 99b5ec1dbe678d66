"""The compiler's figures of a program: memory and traffic, or the reason why it was refused."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from aloe_jax.errors import InputError
from aloe_jax.plan.hlo import UnreadableModuleError, traffic_of

_SIZE = r"([\d.]+)([KMGT])"
_TOO_LARGE = (
    re.compile(rf"required for HLO temporaries \({_SIZE}\) exceeds available HBM \({_SIZE}\)"),
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Figures:
    """Figures of a program, bytes of one chip. Where it did not fit, `needed` and `available` are the compiler's and
    all else is 0."""

    needed: float  # at the peak: arguments, results, temporaries
    available: float = 0.0  # 0: it compiled, so the chip's memory was enough
    arguments: float = 0.0
    temporaries: float = 0.0
    received: Mapping[str, float] = dataclasses.field(default_factory=dict)
    runs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    # `received` by the places along each axis of the slice that the chips of a group take up, as "4x1x1".
    over: Mapping[str, float] = dataclasses.field(default_factory=dict)
    beside: float = 0.0  # of `received`, in collectives beside which the chip computes
    hbm: float = 0.0  # read and written
    unbounded: Sequence[str] = ()  # loops that count once because the module does not say how often they run
    seconds: float = 0.0  # that the compilation took
    # Why the module's text cannot be read. Then `received`, `runs` and `over` are empty and `hbm` is the compiler's own
    # count, which takes a loop's body once.
    unread: str = ""

    @property
    def compiled(self) -> bool:
        """Whether the compiler made a program."""
        return not self.available


def figures(compile_it: Callable[[], jax.stages.Compiled], mesh: Mesh, unknown_trips: int | None = None) -> Figures:
    """Compiles a program and reads its figures. `unknown_trips` as in `hlo.traffic_of`. A program that does not fit is
    a result, and so is one whose module cannot be read.

    Raises InputError where the compiler refuses the program for another reason than memory.
    """
    start = time.monotonic()
    try:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # names the chip to Mosaic; JAX 0.12 asks for it
            compiled = compile_it()
    except jax.errors.JaxRuntimeError as error:
        refused = too_large(str(error))
        if refused is None:
            raise InputError(
                f"the TPU compiler refuses the program ({_first_line(error)}); change config.compute.attention, "
                "config.compute.chunk or config.dataset.row"
            ) from None
        return Figures(*refused, seconds=time.monotonic() - start)
    memory = compiled.memory_analysis()
    found = Figures(
        memory.peak_memory_in_bytes,
        0.0,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        seconds=time.monotonic() - start,
    )
    try:
        traffic = traffic_of(compiled.as_text(), unknown_trips)
    except UnreadableModuleError as error:
        return dataclasses.replace(found, hbm=_bytes_accessed(compiled), unread=str(error))
    over: defaultdict[str, float] = defaultdict(float)
    for members, received in traffic.over.items():
        over[extents(mesh, members)] += received
    return dataclasses.replace(
        found,
        received=traffic.received,
        runs=traffic.runs,
        over=dict(over),
        beside=traffic.beside,
        hbm=traffic.hbm,
        unbounded=traffic.unbounded,
    )


def _bytes_accessed(compiled: jax.stages.Compiled) -> float:
    """Bytes read and written by XLA's own analysis; 0 where it has none."""
    return float((compiled.cost_analysis() or {}).get("bytes accessed", 0.0))


def extents(mesh: Mesh, members: Sequence[int]) -> str:
    """How many places along each axis of the slice some chips take up, as "4x1x1"."""
    devices = mesh.devices.reshape(-1)
    places = zip(*(devices[number].coords for number in members), strict=True)
    return "x".join(str(len(set(axis))) for axis in places)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def too_large(message: str) -> tuple[float, float] | None:
    """(bytes needed, bytes available) of a chip's memory if that is what the compiler's refusal is about."""
    found = next(filter(None, (pattern.search(message) for pattern in _TOO_LARGE)), None)
    if found is None:
        return None
    needed, available = (float(found[part]) * _UNITS[found[part + 1]] for part in (1, 3))
    return needed, available
