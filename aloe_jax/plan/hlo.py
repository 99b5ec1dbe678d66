"""What a compiled module moves: bytes between chips by kind of collective, and bytes to and from HBM.

XLA's own cost analysis counts the body of a loop once, and each step of a collective that was spread over several
fusions. Here the module's text is walked from its entry: a loop's body counts as often as it runs, and a collective
(told by its channel) once where it stands, in a computation and the fusions of it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32, "s64": 64, "u64": 64}
BITS |= {"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "f8e4m3fn": 8, "f8e5m2": 8, "c64": 64}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_IOTA = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"  # sizes, and in which order the axes follow each other
# Their operands and results are names for what others read and write.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota"}
_FREE |= {"after-all", "partition-id", "replica-id", "opt-barrier", "domain"}
_FREE |= {"async-start"}  # what it calls counts
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclass(frozen=True)
class Shape:
    """An array of a module."""

    dtype: str
    sizes: tuple[int, ...]
    in_hbm: bool  # and not in a memory on the chip

    @property
    def bytes(self) -> float:
        return math.prod(self.sizes) * BITS.get(self.dtype, 0) / 8


@dataclass(frozen=True)
class Instruction:
    """A line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # one, or those of a tuple
    operands: tuple[str, ...]
    rest: str  # what stands behind the operands; of a constant the value, of a parameter its number
    root: bool


Computation = Mapping[str, Instruction]


@dataclass(frozen=True)
class Module:
    computations: Mapping[str, Computation]
    entry: str
    partitions: int


@dataclass(frozen=True)
class Collective:
    """A collective of a module, over one run of it on one chip."""

    kind: str
    shapes: tuple[Shape, ...]  # of results and operands
    runs: int
    received: float  # bytes that reach the chip over the interconnect, in all runs
    members: tuple[int, ...]  # one group of chips that take part; one chip alone where a message takes a single path


@dataclass(frozen=True)
class Traffic:
    """Of one chip, over one run of the module."""

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
    def runs(self) -> dict[str, int]:
        """How often each kind runs."""
        counts: Counter[str] = Counter()
        for one in self.collectives:
            counts[one.kind] += one.runs
        return dict(counts)

    def _sums(self, key: Callable[[Collective], Hashable]) -> dict[Any, float]:
        sums: defaultdict[Any, float] = defaultdict(float)
        for one in self.collectives:
            sums[key(one)] += one.received
        return dict(sums)


def parse(text: str) -> Module:
    """The module of a compiled function (`compiled.as_text()`). ValueError if it has no entry."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None or not line.startswith(" "):
            found = _COMPUTATION.match(line)
            if found:
                current = computations.setdefault(found[2], {})
                entry = found[2] if found[1] else entry
        elif instruction := _instruction(line):
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("the text is no HLO module: it has no ENTRY computation")
    partitions = re.search(r"num_partitions=(\d+)", text.split("\n", 1)[0])
    return Module(computations, entry, int(partitions[1]) if partitions else 1)


def _instruction(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if not found:
        return None
    rest = re.sub(r"/\*.*?\*/", "", line[found.end() :])
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    shapes, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    end = _closing("(" + rest) - 1
    inside, rest = rest[: end - 1], rest[end:]
    if opcode in ("constant", "parameter"):
        rest = inside
    return Instruction(found[1], opcode, _shapes(shapes), _names(inside), rest, line.lstrip().startswith("ROOT "))


def _names(text: str) -> tuple[str, ...]:
    """The operands of an instruction, each printed as `shape %name`, `%name` or `name`."""
    while (bare := re.sub(r"[\[({][^\[\](){}]*[\])}]", "", text)) != text:
        text = bare
    return tuple(words[-1].lstrip("%") for words in map(str.split, text.split(",")) if words)


def _closing(text: str) -> int:
    """The index behind the bracket that closes the one `text` starts with."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return index + 1
    return len(text)


def _shapes(text: str) -> tuple[Shape, ...]:
    """In a layout, S(1) and above name memories other than HBM."""
    return tuple(
        Shape(dtype, tuple(int(size) for size in sizes.split(",") if size), not re.search(r"S\([1-9]", layout))
        for dtype, sizes, layout in _ARRAY.findall(text)
    )


def traffic(module: Module, unknown_trips: float | None = None) -> Traffic:
    """Bytes between chips and to HBM. `unknown_trips` is how often the one outermost loop runs whose bound the module
    does not state, as that over micro-batches; None if there is no such loop. Any other loop without a bound counts
    once and is named in the result.

    Raises ValueError where a collective cannot be read.
    """
    collectives: list[Collective] = []
    hbm = 0.0
    unstated: tuple[list[str], list[str]] = ([], [])
    for computation, times, fused, seen in _walk(module, module.entry, unknown_trips, unstated):
        for instruction in computation.values():
            if not fused:
                hbm += times * _hbm_bytes(module, computation, instruction)
            kind = instruction.opcode.removesuffix("-start")
            channel = re.search(r"channel_id=(\d+)", instruction.rest)
            if kind in COLLECTIVES and not (channel and channel[1] in seen):
                if kind == "all-reduce" and "all-reduce-scatter" in fused:
                    kind = "reduce-scatter"  # fused with the slice that a chip keeps; all of them have one channel
                elif channel:
                    seen.add(channel[1])
                received, members = _received(module, computation, instruction, kind)
                shapes = instruction.shapes + _shapes_of(computation, instruction.operands)
                collectives.append(Collective(kind, shapes, round(times), times * received, members))
    outer, inner = unstated
    expected = 0 if unknown_trips is None else 1
    return Traffic(tuple(collectives), hbm, tuple(inner + outer * (len(outer) > expected)))


class _Visit(NamedTuple):
    """A computation that runs: how often, the name of the fusion it is part of, and the channels seen in the same
    place, which a computation shares with its fusions."""

    computation: Computation
    times: float
    fused: str
    seen: set[str]


def _walk(
    module: Module,
    name: str,
    unknown_trips: float | None,
    unstated: tuple[list[str], list[str]],
    times: float = 1,
    fused: str = "",
    seen: set[str] | None = None,
    inside_loop: bool = False,
) -> Iterator[_Visit]:
    """Everything that runs, from computation `name` on. Loops without a stated bound are added to `unstated`, the
    outermost ones to its first list."""
    computation = module.computations.get(name, {})
    seen = set() if seen is None else seen
    yield _Visit(computation, times, fused, seen)
    for instruction in computation.values():
        called = re.findall(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)", instruction.rest)
        branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.rest)
        called += re.findall(r"[\w.-]+", branches[1]) if branches else []
        opcode, inner = instruction.opcode, times
        if opcode == "while":
            trips: float | None = trip_count(module, instruction)
            if trips is None:
                unstated[inside_loop].append(instruction.name)
                trips = 1 if inside_loop or unknown_trips is None else unknown_trips
            inner *= trips
        elif opcode not in ("fusion", "call", "conditional", "async-start"):
            continue  # what a reduction or a sort does with two elements moves nothing
        part = fused or (f"{name}/{called[0]}" if opcode == "fusion" and called else "")
        here = seen if opcode == "fusion" else None
        for other in called:
            looped = inside_loop or opcode == "while"
            yield from _walk(module, other, unknown_trips, unstated, inner, part, here, looped)


def trip_count(module: Module, loop: Instruction) -> int | None:
    """How often a loop runs: as XLA noted it, else from a condition `counter < constant`, be it in a fusion, counting
    from 0 by 1 as JAX's loops do; None if neither is there."""
    noted = re.search(r'known_trip_count[^}]*?"n":"?(\d+)', loop.rest)
    if noted:
        return int(noted[1])
    condition = re.search(r"condition=%?([\w.-]+)", loop.rest)
    outside = module.computations.get(condition[1], {}) if condition else {}
    root, inside = _root(outside), outside
    given: tuple[str, ...] = ()
    if root and root.opcode == "fusion":
        inside, given = _called(module, root), root.operands
        root = _root(inside)
    if root and root.opcode == "compare" and "direction=LT" in root.rest:
        bound = inside.get(root.operands[1])
        if bound and bound.opcode == "parameter" and given:
            bound = outside.get(given[int(bound.rest)])
        if bound and bound.opcode == "constant" and re.fullmatch(r"\d+", bound.rest):
            return int(bound.rest)
    return None


def _root(computation: Computation) -> Instruction | None:
    return next((instruction for instruction in computation.values() if instruction.root), None)


def _received(
    module: Module, computation: Computation, instruction: Instruction, kind: str
) -> tuple[float, tuple[int, ...]]:
    """Bytes that reach a chip in one run, and the chips that take part. Each of g chips lacks (g - 1) / g of the whole
    array, and an all-reduce is a reduce-scatter and an all-gather. ValueError if the operands are not there."""
    if not instruction.operands or any(name not in computation for name in instruction.operands):
        raise ValueError(f"the {kind} {instruction.name} has operands that are not in its computation")
    given = _bytes_of(computation, *instruction.operands)
    if kind == "collective-permute":
        return given, (0,)
    members = _group(module, instruction)
    whole = given * len(members) if kind == "all-gather" else given
    return whole * (len(members) - 1) / len(members) * (2 if kind == "all-reduce" else 1), members


def _bytes_of(computation: Computation, *names: str) -> float:
    return sum(shape.bytes for shape in _shapes_of(computation, names))


def _shapes_of(computation: Computation, names: Iterable[str]) -> tuple[Shape, ...]:
    return tuple(shape for name in names if name in computation for shape in computation[name].shapes)


def _group(module: Module, instruction: Instruction) -> tuple[int, ...]:
    """Chips that take part in a collective together, those of its first group: all, or from one of the three forms of
    `replica_groups`. ValueError for another form."""
    text = instruction.rest
    if "replica_groups=" not in text or "replica_groups={}" in text:
        return tuple(range(module.partitions))
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return tuple(map(int, found[1].split(",")))
    if found := re.search(rf"replica_groups=\[\d+,(\d+)\]<={_IOTA}", text):
        return tuple(_numbered(found[2], found[3])[: int(found[1])].tolist())
    if found := re.search(rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({_IOTA}\))? ?\{{([^}}]*)\}}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", found[1])}
        grouped = re.findall(r"'(\w+)'", found[4])
        ids = _numbered(found[2], found[3]) if found[2] else np.arange(math.prod(sizes.values()))
        first = tuple(slice(None) if name in grouped else 0 for name in sizes)
        return tuple(ids.reshape(tuple(sizes.values()))[first].reshape(-1).tolist())
    raise ValueError(f"{instruction.name} has replica groups of an unknown form")


def _numbered(sizes: str, order: str | None) -> np.ndarray:
    """0, 1, 2, ... in an array of those sizes, its axes in that order, flat."""
    shape = tuple(map(int, sizes.split(",")))
    ids = np.arange(math.prod(shape)).reshape(shape)
    return ids.transpose([int(axis) for axis in order.split(",")] if order else None).reshape(-1)


def _hbm_bytes(module: Module, computation: Computation, instruction: Instruction) -> float:
    """What an instruction reads and writes. A slice of a larger array counts as the slice."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0.0
    if opcode == "copy-start":  # (one end, other end, context)
        ends = instruction.shapes[:2]
        return min((end.bytes for end in ends), default=0.0) * sum(end.in_hbm for end in ends)
    if opcode.endswith("-start"):
        return _hbm_bytes(module, computation, _started(computation, instruction))
    written = sum(shape.bytes for shape in instruction.shapes if shape.in_hbm)
    if opcode == "broadcast":
        return written
    if opcode in _SLICES:
        source = computation.get(instruction.operands[0])
        return written + instruction.shapes[0].bytes * (source is None or source.shapes[0].in_hbm)
    if opcode == "dynamic-update-slice":
        return 2 * _bytes_of(computation, instruction.operands[1])
    if opcode == "fusion" and (inside := _called(module, instruction)):
        return _fusion_bytes(module, computation, instruction, inside)
    read = _shapes_of(computation, instruction.operands)
    return written + sum(shape.bytes for shape in read if shape.in_hbm)


def _started(computation: Computation, start: Instruction) -> Instruction:
    """The operation that a start operation stands for. Its shape is a tuple of what the operands have, of the results,
    and of contexts; of an all-reduce the results alone."""
    given = len(_shapes_of(computation, start.operands))
    results = start.shapes[given : 2 * given] or start.shapes
    return replace(start, opcode=start.opcode.removesuffix("-start"), shapes=results)


def _fusion_bytes(module: Module, computation: Computation, fusion: Instruction, inside: Computation) -> float:
    """Operands in full unless only slices of them are used; results in full unless they are updates of a slice."""
    total = 0.0
    for number, name in enumerate(fusion.operands):
        source, parameter = computation.get(name), _parameter(inside, number)
        if source and parameter and all(shape.in_hbm for shape in source.shapes):
            total += _read(module, inside, parameter, sum(shape.bytes for shape in source.shapes))
    root = _root(inside)
    if root is None:
        return total
    parts = [inside.get(name) for name in root.operands] if root.opcode == "tuple" else [root]
    for part, shape in zip(parts, fusion.shapes, strict=False):
        if shape.in_hbm:
            updated = _behind_bitcast(inside, part)
            slice_only = updated and updated.opcode == "dynamic-update-slice"
            total += _bytes_of(inside, updated.operands[1]) if updated and slice_only else shape.bytes
    return total


def _parameter(inside: Computation, number: int) -> str | None:
    """The name of parameter `number` of a computation."""
    found = (one.name for one in inside.values() if one.opcode == "parameter" and one.rest == str(number))
    return next(found, None)


def _behind_bitcast(inside: Computation, instruction: Instruction | None) -> Instruction | None:
    while instruction and instruction.opcode == "bitcast":
        instruction = inside.get(instruction.operands[0])
    return instruction


def _read(module: Module, inside: Computation, name: str, whole: float) -> float:
    """Bytes of a fusion's operand, called `name` inside, that the fusion and those inside it read."""
    total = 0.0
    for user in [instruction for instruction in inside.values() if name in instruction.operands]:
        if user.opcode in _SLICES and user.operands[0] == name:
            total += user.shapes[0].bytes
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            pass  # the rest stays where it is
        elif user.opcode == "bitcast":
            total += _read(module, inside, user.name, whole)
        elif user.opcode == "fusion" and (called := _called(module, user)):
            for number, operand in enumerate(user.operands):
                if operand == name and (parameter := _parameter(called, number)):
                    total += _read(module, called, parameter, whole)
        else:
            return whole
    return min(whole, total)


def _called(module: Module, fusion: Instruction) -> Computation:
    found = re.search(r"calls=%?([\w.-]+)", fusion.rest)
    return module.computations.get(found[1], {}) if found else {}
