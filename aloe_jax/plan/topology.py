"""A slice of Cloud TPU chips: which, how many, and how they are wired."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.parallel.chips import CHIPS, Chip


@dataclass(frozen=True)
class Topology:
    """A slice by its chip and the number of chips along each axis."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As on the command line, "v5e:4x4"."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def accelerator_type(self) -> str:
        """Cloud TPU's name of the slice, "v5litepod-16" for v5e:4x4. Raises InputError for a shape without one."""
        prefix = _PREFIXES.get(self.chip.name, self.chip.name)
        shapes = _TYPES[prefix][1]
        text = "x".join(map(str, self.shape))
        for number, shape in shapes.items():
            if shape == text:
                return f"{prefix}-{number}"
        raise InputError(
            f"--topology: '{self.name}' is no usual slice of Cloud TPU; give a shape of {', '.join(shapes.values())}"
        )

    @property
    def ring_axes(self) -> tuple[bool, ...]:
        """Whether each axis closes to a ring. Cubes close all axes or none: each has to be a multiple of four."""
        if self.chip.axes == 3:
            closed = all(size % self.chip.wraps_at == 0 for size in self.shape)
            return (closed,) * len(self.shape)
        return tuple(size % self.chip.wraps_at == 0 for size in self.shape)

    @property
    def bandwidth(self) -> float:
        """`bandwidth_over` all chips of the slice."""
        return self.bandwidth_over(self.shape)

    def bandwidth_over(self, extents: Sequence[int]) -> float:
        """Bytes per second that the chip with the fewest links, for which a collective waits, can receive in a group of
        chips that takes up so many places along each axis.

        It has two links on an axis that closes to a ring and is filled by the group, and one on another axis that the
        group lies along, at whose end it is. A message from one chip to another takes one link.
        """
        links = sum(
            2 if ring and taken == size else 1
            for taken, size, ring in zip(extents, self.shape, self.ring_axes, strict=False)
            if taken > 1
        )
        return max(links, 1) * self.chip.link_bandwidth


def parse_topology(text: str) -> Topology:
    """The slice of that name, `v5e:4x4`, or of that accelerator type, `v5e-16`. Raises InputError for a chip that is
    not in the table or another form."""
    if by_type := re.fullmatch(r"(\w+)-(\d+)", text):
        text = _of_type(text, *by_type.groups())
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", text)
    if not found or found[1] not in CHIPS:
        raise InputError(
            f"--topology: '{text}' is unknown; expected chip:shape with a chip of {', '.join(CHIPS)}, for example "
            "v5e:4x4, v5p:2x2x4 or v5e-16"
        )
    chip, shape = CHIPS[found[1]], tuple(map(int, found[2].split("x")))
    if len(shape) != chip.axes or 0 in shape:
        raise InputError(f"--topology: '{text}' has {len(shape)} axes; a slice of {chip.name} has {chip.axes}, above 0")
    return Topology(chip, shape)


# Accelerator types of Cloud TPU, by the number in their name: of chips, with v5p of cores, of which a chip has two. The
# shapes are those of the pages named in parallel/chips.py.
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {8: "2x2x1", 16: "2x2x2", 32: "2x2x4", 64: "2x4x4", 128: "4x4x4", 256: "4x4x8", 512: "4x8x8", 1024: "8x8x8"}
_TYPES = {"v5e": ("v5e", _FLAT), "v5litepod": ("v5e", _FLAT), "v5p": ("v5p", _CUBES), "v6e": ("v6e", _FLAT)}
_PREFIXES = {"v5e": "v5litepod"}  # where the type does not begin with the chip's own name


def _of_type(text: str, chip: str, number: str) -> str:
    """The slice of an accelerator type as chip and shape."""
    if chip not in _TYPES:
        raise InputError(
            f"--topology: '{text}' is unknown; expected one of {', '.join(CHIPS)}, as in v5e-16 or v5e:4x4"
        )
    name, shapes = _TYPES[chip]
    if int(number) not in shapes:
        counted = "cores (two per chip)" if name == "v5p" else "chips"
        raise InputError(
            f"--topology: '{text}' has a number of {counted} without a usual shape; give one of "
            f"{', '.join(map(str, shapes))}, or the shape, as in {name}:{shapes[16]}"
        )
    return f"{name}:{shapes[int(number)]}"
