"""Bytes that an instruction reads from HBM and writes to it."""

from __future__ import annotations

import re
from dataclasses import replace

from aloe_jax.plan.hlo.module import (
    Computation,
    Instruction,
    Module,
    bytes_of,
    called_by,
    parameter_of,
    root_of,
    shapes_of,
)

# Their operands and results are names for what others read and write.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota"}
_FREE |= {"after-all", "partition-id", "replica-id", "opt-barrier", "domain"}
_FREE |= {"async-start"}  # what it calls counts
_SLICES = ("dynamic-slice", "slice", "gather")
# Operations that change parts of their first operand in place, and the operand that holds the parts.
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}


def hbm_bytes(module: Module, computation: Computation, instruction: Instruction) -> float:
    """What an instruction reads and writes. A slice of a larger array counts as the slice, and a kernel that states
    that it moves less than its operands and results with that."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0.0
    if opcode == "copy-start":  # (one end, other end, context)
        ends = instruction.shapes[:2]
        return min((end.bytes for end in ends), default=0.0) * sum(end.in_hbm for end in ends)
    if opcode.endswith("-start"):
        return hbm_bytes(module, computation, _started(computation, instruction))
    written = sum(shape.bytes for shape in instruction.shapes if shape.in_hbm)
    if opcode == "broadcast":
        return written
    if opcode in _SLICES:
        source = computation.get(instruction.operands[0])
        return written + instruction.shapes[0].bytes * (source is None or source.shapes[0].in_hbm)
    if opcode in _UPDATES and len(instruction.shapes) == 1:
        return 2 * bytes_of(computation, instruction.operands[_UPDATES[opcode]])
    if opcode == "fusion" and (inside := called_by(module, instruction)):
        return _fusion_bytes(module, computation, instruction, inside)
    moved = written + sum(shape.bytes for shape in shapes_of(computation, instruction.operands) if shape.in_hbm)
    stated = re.search(r'"bytes_accessed":"?(\d+)', instruction.rest) if opcode == "custom-call" else None
    return min(moved, float(stated[1])) if stated else moved


def _started(computation: Computation, start: Instruction) -> Instruction:
    """The operation that a start operation stands for. Its shape is a tuple of what the operands have, of the results,
    and of contexts; of an all-reduce the results alone."""
    given = len(shapes_of(computation, start.operands))
    results = start.shapes[given : 2 * given] or start.shapes
    return replace(start, opcode=start.opcode.removesuffix("-start"), shapes=results)


def _fusion_bytes(module: Module, computation: Computation, fusion: Instruction, inside: Computation) -> float:
    """Operands in full unless only slices of them are used; results in full unless they are updates of a slice."""
    total = 0.0
    for number, name in enumerate(fusion.operands):
        source, parameter = computation.get(name), parameter_of(inside, number)
        if source and parameter and all(shape.in_hbm for shape in source.shapes):
            total += _read(module, inside, parameter, sum(shape.bytes for shape in source.shapes))
    root = root_of(inside)
    if root is None:
        return total
    parts = [inside.get(name) for name in root.operands] if root.opcode == "tuple" else [root]
    for part, shape in zip(parts, fusion.shapes, strict=False):
        if shape.in_hbm:
            updated = _behind_bitcast(inside, part)
            in_place = updated and len(updated.shapes) == 1 and _UPDATES.get(updated.opcode)
            total += bytes_of(inside, updated.operands[in_place]) if updated and in_place else shape.bytes
    return total


def _behind_bitcast(inside: Computation, instruction: Instruction | None) -> Instruction | None:
    """What an instruction gives another type or layout to; itself if it is no bitcast."""
    while instruction and instruction.opcode == "bitcast":
        instruction = inside.get(instruction.operands[0])
    return instruction


def _read(module: Module, inside: Computation, name: str, whole: float) -> float:
    """Bytes of a fusion's operand, called `name` inside, that the fusion and those inside it read."""
    total = 0.0
    for user in [instruction for instruction in inside.values() if name in instruction.operands]:
        if user.opcode in _SLICES and user.operands[0] == name:
            total += user.shapes[0].bytes
        elif user.opcode in _UPDATES and user.operands[0] == name:
            pass  # the rest stays where it is
        elif user.opcode == "bitcast":
            total += _read(module, inside, user.name, whole)
        elif user.opcode == "fusion" and (called := called_by(module, user)):
            for number, operand in enumerate(user.operands):
                if operand == name and (parameter := parameter_of(called, number)):
                    total += _read(module, called, parameter, whole)
        else:
            return whole
    return min(whole, total)
