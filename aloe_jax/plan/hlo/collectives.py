"""What a collective brings to a chip, and which chips take part in it."""

from __future__ import annotations

import math
import re

import numpy as np

from aloe_jax.plan.hlo.module import Computation, Instruction, Module, UnreadableModuleError, bytes_of

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_IOTA = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"  # sizes, and the order in which the axes follow each other


def received(
    module: Module, computation: Computation, instruction: Instruction, kind: str
) -> tuple[float, tuple[int, ...]]:
    """Bytes that reach a chip in one run, and the chips that take part. Each of g chips lacks (g - 1) / g of the whole
    array, and an all-reduce is a reduce-scatter and an all-gather. UnreadableModuleError if the operands are not
    there."""
    if not instruction.operands or any(name not in computation for name in instruction.operands):
        raise UnreadableModuleError(f"the {kind} {instruction.name} has operands that are not in its computation")
    given = bytes_of(computation, *instruction.operands)
    if kind == "collective-permute":
        return given, (0,)
    members = group(module, instruction)
    whole = given * len(members) if kind == "all-gather" else given
    return whole * (len(members) - 1) / len(members) * (2 if kind == "all-reduce" else 1), members


def group(module: Module, instruction: Instruction) -> tuple[int, ...]:
    """The chips that take part in a collective together, those of its first group: all, or from one of the three forms
    of `replica_groups`. UnreadableModuleError for another form, and for chips that the module does not have."""
    members = _group(module, instruction)
    if not members or max(members) >= module.partitions:
        raise UnreadableModuleError(f"{instruction.name} groups chips {members} of {module.partitions}")
    return members


def _group(module: Module, instruction: Instruction) -> tuple[int, ...]:
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
    raise UnreadableModuleError(f"{instruction.name} has replica groups of an unknown form")


def _numbered(sizes: str, order: str | None) -> np.ndarray:
    """0, 1, 2, ... in an array of those sizes, its axes in that order, flat."""
    shape = tuple(map(int, sizes.split(",")))
    ids = np.arange(math.prod(shape)).reshape(shape)
    return ids.transpose([int(axis) for axis in order.split(",")] if order else None).reshape(-1)
