"""What the chips of Cloud TPU can do, and how a slice of them is wired: the figures that `aloe plan` divides by.

From each generation's page under https://docs.cloud.google.com/tpu/docs/ (v5e, v5p, v6e). Those pages
give the interconnect of a chip as the sum over its links and both directions; here a link has one direction's share.
Prices are in no table: they change and depend on region and contract, so `aloe plan --price` takes one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from aloe_jax.errors import InputError

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """Peak figures of one chip. `wraps_at` is the length from which an axis of a slice closes to a ring."""

    name: str
    hbm: float  # bytes of memory that a program may take; libtpu says so where it refuses one
    flops: float  # bf16 operations a second of the matrix units
    hbm_bandwidth: float  # bytes a second
    link_bandwidth: float  # bytes a second through one link in one direction
    axes: int  # of the torus; two links on each
    wraps_at: int
    source: str


# v5e and v6e close an axis only in a slice that spans it; v5p is wired in cubes of 4 x 4 x 4. v4 is missing: ahead of
# time libtpu offers a device for each of its cores, of which JAX makes no mesh.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 15.75 * GIB, 197e12, 819e9, 50e9, 2, 16, "https://docs.cloud.google.com/tpu/docs/v5e"),
        Chip("v5p", 95.74 * GIB, 459e12, 2765e9, 100e9, 3, 4, "https://docs.cloud.google.com/tpu/docs/v5p"),
        Chip("v6e", 31.25 * GIB, 918e12, 1638e9, 100e9, 2, 16, "https://docs.cloud.google.com/tpu/docs/v6e"),
    )
}


@dataclass(frozen=True)
class Topology:
    """A slice: which chip, and how many along each axis."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def ring_axes(self) -> tuple[bool, ...]:
        """Which axes close to a ring. Cubes close all axes or none: each has to be a multiple of four."""
        if self.chip.axes == 3:
            closed = all(size % self.chip.wraps_at == 0 for size in self.shape)
            return (closed,) * len(self.shape)
        return tuple(size % self.chip.wraps_at == 0 for size in self.shape)

    @property
    def bandwidth(self) -> float:
        """Bytes a second that the chip with the fewest links can receive: two links on an axis that closes to a ring,
        one at the end of an open axis, none where the axis has one chip. A collective over all chips waits for it."""
        links = sum(2 if ring else 1 for size, ring in zip(self.shape, self.ring_axes, strict=True) if size > 1)
        return links * self.chip.link_bandwidth


def parse_topology(text: str) -> Topology:
    """A slice from its name, `v5e:4x4`. Raises InputError for a chip that is not in the table or another form."""
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", text)
    if not found or found[1] not in CHIPS:
        raise InputError(
            f"--topology: '{text}' is unknown; expected chip:shape with a chip of {', '.join(CHIPS)}, for example "
            "v5e:4x4 or v5p:2x2x4"
        )
    chip, shape = CHIPS[found[1]], tuple(map(int, found[2].split("x")))
    if len(shape) != chip.axes or 0 in shape:
        raise InputError(f"--topology: '{text}' has {len(shape)} axes; a slice of {chip.name} has {chip.axes}, above 0")
    return Topology(chip, shape)
