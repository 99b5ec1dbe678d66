"""The text of a compiled module as computations of instructions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32, "s64": 64, "u64": 64}
BITS |= {"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "f8e4m3fn": 8, "f8e5m2": 8, "c64": 64}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = ")
_OPCODE = re.compile(r"[a-z][\w-]*")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")


class UnreadableModuleError(ValueError):
    """The text of the module cannot be parsed."""


@dataclass(frozen=True)
class Shape:
    """Type and sizes of an array."""

    dtype: str
    sizes: tuple[int, ...]
    in_hbm: bool  # and not in a memory on the chip

    @property
    def bytes(self) -> float:
        """Size of the array."""
        return math.prod(self.sizes) * BITS.get(self.dtype, 0) / 8


@dataclass(frozen=True)
class Instruction:
    """A line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # one, or those of a tuple
    operands: tuple[str, ...]
    rest: str  # what follows the operands; of a constant the value, of a parameter its number
    root: bool


Computation = Mapping[str, Instruction]


@dataclass(frozen=True)
class Module:
    """All computations by name, the name of the first one to run, and the number of chips."""

    computations: Mapping[str, Computation]
    entry: str
    partitions: int


def parse(text: str) -> Module:
    """The module of a compiled function (`compiled.as_text()`). UnreadableModuleError if it has no entry."""
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
        raise UnreadableModuleError("the text is no HLO module: it has no ENTRY computation")
    if not computations[entry]:
        raise UnreadableModuleError(f"no instruction is found in the ENTRY computation {entry}")
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
    if not _OPCODE.fullmatch(opcode):
        raise UnreadableModuleError(f"{found[1]} has no operation")
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
    """The index after the bracket that closes the one `text` starts with."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return index + 1
    return len(text)


def _shapes(text: str) -> tuple[Shape, ...]:
    """All arrays of a shape. In a layout, S(1) and above name memories other than HBM."""
    return tuple(
        Shape(dtype, tuple(int(size) for size in sizes.split(",") if size), not re.search(r"S\([1-9]", layout))
        for dtype, sizes, layout in _ARRAY.findall(text)
    )


def shapes_of(computation: Computation, names: Iterable[str]) -> tuple[Shape, ...]:
    """Shapes of the results of some instructions of a computation."""
    return tuple(shape for name in names if name in computation for shape in computation[name].shapes)


def bytes_of(computation: Computation, *names: str) -> float:
    """Bytes of the results of some instructions of a computation."""
    return sum(shape.bytes for shape in shapes_of(computation, names))


def root_of(computation: Computation) -> Instruction | None:
    """The instruction whose result is that of the computation."""
    return next((instruction for instruction in computation.values() if instruction.root), None)


def parameter_of(computation: Computation, number: int) -> str | None:
    """The name of parameter `number` of a computation."""
    found = (one.name for one in computation.values() if one.opcode == "parameter" and one.rest == str(number))
    return next(found, None)


def called_by(module: Module, fusion: Instruction) -> Computation:
    """The computation inside a fusion; empty if it names none."""
    found = re.search(r"calls=%?([\w.-]+)", fusion.rest)
    return module.computations.get(found[1], {}) if found else {}
