"""What the chips of Cloud TPU can do: the figures that `aloe plan` and the model FLOPs utilisation divide by.

From each generation's page under https://docs.cloud.google.com/tpu/docs/ (v5e, v5p, v6e). Those pages
give the interconnect of a chip as the sum over its links and both directions; here a link has one direction's share.
Prices are in no table: they change and depend on region and contract, so `aloe plan --price` takes one.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

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

# What JAX calls a device of each chip.
_KINDS = {
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}


def chip_of(device: jax.Device) -> Chip | None:
    """The chip behind a device; None for one that is not in the table."""
    return CHIPS.get(_KINDS.get(device.device_kind, ""))
