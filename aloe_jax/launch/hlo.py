"""What a compiled module moves: bytes between chips by kind of collective, and bytes to and from HBM.

XLA's own cost analysis counts the body of a loop once, and each step of a collective that was spread over several
fusions. Here the module's text is walked from its entry: a loop's body counts as often as it runs, a collective
(told by its channel) once.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32, "s64": 64, "u64": 64}
BITS |= {"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "f8e4m3fn": 8, "f8e5m2": 8, "c64": 64}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
# Their operands and results are names for what others read and write.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota"}
_FREE |= {"after-all", "partition-id", "replica-id", "opt-barrier", "domain"}


@dataclass(frozen=True)
class Shape:
    """An array of a module."""

    bytes: float
    in_hbm: bool  # and not in a memory on the chip


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
class Traffic:
    """Of one chip, over one run of the module."""

    received: Mapping[str, float]  # bytes that reach it over the interconnect, by kind of collective
    runs: Mapping[str, int]  # how often each kind runs
    hbm: float  # bytes read and written


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
    operands = tuple(re.findall(r"%([\w.-]+)", inside))
    return Instruction(found[1], opcode, _shapes(shapes), operands, rest, line.lstrip().startswith("ROOT "))


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
        Shape(
            math.prod(int(size) for size in sizes.split(",") if size) * BITS.get(dtype, 0) / 8,
            not re.search(r"S\([1-9]", layout),
        )
        for dtype, sizes, layout in _ARRAY.findall(text)
    )


def traffic(module: Module, unknown_trips: float = 1) -> Traffic:
    """Bytes between chips and to HBM. `unknown_trips` is how often an outermost loop runs whose bound the module does
    not state, as that over micro-batches; such a loop inside another counts once."""
    received: defaultdict[str, float] = defaultdict(float)
    runs: Counter[str] = Counter()
    hbm = 0.0
    seen: set[str] = set()
    for computation, times, fused in _walk(module, module.entry, 1, unknown_trips, fused=""):
        for instruction in computation.values():
            if not fused:
                hbm += times * _hbm_bytes(module, computation, instruction)
            kind = instruction.opcode.removesuffix("-start")
            channel = re.search(r"channel_id=(\d+)", instruction.rest)
            if kind in COLLECTIVES and not (channel and channel[1] in seen):
                seen |= {channel[1]} if channel else set()
                if kind == "all-reduce" and "all-reduce-scatter" in fused:
                    kind = "reduce-scatter"  # fused with the slice that a chip keeps
                received[kind] += times * _received(module, computation, instruction, kind)
                runs[kind] += round(times)
    return Traffic(dict(received), dict(runs), hbm)


def _walk(
    module: Module, name: str, times: float, unknown_trips: float, fused: str
) -> Iterator[tuple[Computation, float, str]]:
    """Every computation that runs, how often, and the name of the fusion it is part of."""
    computation = module.computations.get(name, {})
    yield computation, times, fused
    for instruction in computation.values():
        called = re.findall(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)", instruction.rest)
        branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.rest)
        called += re.findall(r"[\w.-]+", branches[1]) if branches else []
        inner = times
        unknown = unknown_trips
        if instruction.opcode == "while":
            inner *= trip_count(module, instruction, unknown_trips)
            unknown = 1
        elif instruction.opcode not in ("fusion", "call", "conditional", "async-start"):
            continue  # what a reduction or a sort does with two elements moves nothing
        inside = fused or (f"{name}/{called[0]}" if instruction.opcode == "fusion" and called else "")
        for other in called:
            yield from _walk(module, other, inner, unknown, inside)


def trip_count(module: Module, loop: Instruction, unknown: float) -> float:
    """How often a loop runs: as XLA noted it, else from a condition `counter < constant`, counting from 0 by 1 as JAX's
    loops do; `unknown` if neither is there."""
    noted = re.search(r'known_trip_count[^}]*?"n":"?(\d+)', loop.rest)
    if noted:
        return int(noted[1])
    condition = re.search(r"condition=%?([\w.-]+)", loop.rest)
    computation = module.computations.get(condition[1], {}) if condition else {}
    root = next((instruction for instruction in computation.values() if instruction.root), None)
    if root and root.opcode == "compare" and "direction=LT" in root.rest:
        bound = computation.get(root.operands[1])
        if bound and bound.opcode == "constant" and re.fullmatch(r"\d+", bound.rest):
            return int(bound.rest)
    return unknown


def _received(module: Module, computation: Computation, instruction: Instruction, kind: str) -> float:
    """Bytes that reach a chip: each of g chips lacks (g - 1) / g of the whole array, and an all-reduce is a
    reduce-scatter and an all-gather."""
    given = sum(_bytes_of(computation, name) for name in instruction.operands)
    if kind == "collective-permute":
        return given
    size = _group(module, instruction.rest)
    whole = given * size if kind == "all-gather" else given
    return whole * (size - 1) / size * (2 if kind == "all-reduce" else 1)


def _bytes_of(computation: Computation, name: str) -> float:
    return sum(shape.bytes for shape in computation[name].shapes) if name in computation else 0.0


def _group(module: Module, text: str) -> int:
    """Chips that take part in a collective together, from one of the three forms of `replica_groups`."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", found[1])}
        return math.prod(sizes[name] for name in re.findall(r"'(\w+)'", found[2]))
    return module.partitions


def _hbm_bytes(module: Module, computation: Computation, instruction: Instruction) -> float:
    """What an instruction reads and writes. A slice of a larger array counts as the slice."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0.0
    if opcode in ("copy-start", "slice-start"):  # (one end, other end, context)
        ends = instruction.shapes[:2]
        return min((end.bytes for end in ends), default=0.0) * sum(end.in_hbm for end in ends)
    written = sum(shape.bytes for shape in instruction.shapes if shape.in_hbm)
    if opcode in ("dynamic-slice", "slice", "gather", "broadcast"):
        return 2 * written if opcode != "broadcast" else written
    if opcode == "dynamic-update-slice":
        return 2 * _bytes_of(computation, instruction.operands[1])
    if opcode == "fusion" and (inside := _called(module, instruction)):
        return _fusion_bytes(module, computation, instruction, inside)
    read = [shape for name in instruction.operands if name in computation for shape in computation[name].shapes]
    return written + sum(shape.bytes for shape in read if shape.in_hbm)


def _fusion_bytes(module: Module, computation: Computation, fusion: Instruction, inside: Computation) -> float:
    """Operands in full unless only slices of them are used; results in full unless they are updates of a slice."""
    total = 0.0
    for number, name in enumerate(fusion.operands):
        source, parameter = computation.get(name), _parameter(inside, number)
        if source and parameter and all(shape.in_hbm for shape in source.shapes):
            total += _read(module, inside, parameter, sum(shape.bytes for shape in source.shapes))
    root = next((instruction for instruction in inside.values() if instruction.root), None)
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
        if user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
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
