"""Peak figures of Cloud TPU chips, which `aloe plan` and the model FLOPs utilisation divide by.

They are from each generation's page under https://docs.cloud.google.com/tpu/docs/ (v5e, v5p, v6e). Those pages give the
interconnect of a chip as the sum over its links and both directions; here it is per link and direction. Prices are not
listed: they change and depend on region and contract, so `aloe plan --price` takes one.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

GIB = 2**30
DOCS = "https://docs.cloud.google.com/tpu/docs"


@dataclass(frozen=True)
class Chip:
    """Peak figures of one chip. `wraps_at` is the length from which an axis of a slice closes to a ring."""

    name: str
    hbm: float  # bytes of memory that a program may use, as libtpu states them when it refuses one
    flops: float  # bf16 operations per second of the matrix units
    hbm_bandwidth: float  # bytes per second
    link_bandwidth: float  # bytes per second through one link in one direction
    axes: int  # of the torus; two links per axis
    wraps_at: int
    kinds: tuple[str, ...]  # JAX's names of its devices
    source: str

    def figures(self) -> dict[str, object]:
        """The figures by name with their source, without what only concerns JAX's devices."""
        return {name: value for name, value in vars(self).items() if name != "kinds"}


# v5e and v6e close an axis only in a slice that spans it; v5p is wired in cubes of 4 x 4 x 4. v4 is missing: ahead of
# time libtpu lists one device per core, and JAX makes no mesh of these.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 15.75 * GIB, 197e12, 819e9, 50e9, 2, 16, ("TPU v5 lite", "TPU v5e"), f"{DOCS}/v5e"),
        Chip("v5p", 95.74 * GIB, 459e12, 2765e9, 100e9, 3, 4, ("TPU v5", "TPU v5p"), f"{DOCS}/v5p"),
        Chip("v6e", 31.25 * GIB, 918e12, 1638e9, 100e9, 2, 16, ("TPU v6 lite", "TPU v6e"), f"{DOCS}/v6e"),
    )
}

_BY_KIND = {kind: chip for chip in CHIPS.values() for kind in chip.kinds}


def chip_of(device: jax.Device) -> Chip | None:
    """The figures of a device's chip; None for one that is not in the table."""
    return _BY_KIND.get(device.device_kind)
