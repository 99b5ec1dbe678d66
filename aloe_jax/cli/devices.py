"""The accelerators of this machine, detected without loading JAX."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def leave_libtpu_alone() -> None:
    """Keep JAX from using libtpu on a machine without accelerators, where it is installed to compile for TPUs: it would
    print warnings about missing chips on stderr."""
    if importlib.util.find_spec("libtpu") and not _chips() and not _gpu():
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _chips() -> list[Path]:
    """The device files of TPUs and of some other accelerators on Linux."""
    return [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*")]


def _gpu() -> bool:
    return any(importlib.util.find_spec(f"jax_{name}_plugin") for name in ("cuda12", "cuda13", "rocm7"))


def has_tpus() -> bool:
    """Whether JAX will compute on TPUs, detected without loading it."""
    others = os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu"
    return bool(importlib.util.find_spec("libtpu") and _chips()) and not _gpu() and not others


# PCI numbers of Google's chips, from jax/_src/hardware_utils.py (jax 0.10.2).
_GOOGLE, _PCI_NAMES = "0x1ae0", {"0x0062": "v5p", "0x0063": "v5e", "0x006f": "v6e"}


def chip_name(folder: Path = Path("/sys/bus/pci/devices")) -> str | None:
    """The name of this machine's TPU chips as `aloe plan` writes it, read without loading JAX; None for others."""
    for device in sorted(folder.glob("*")):
        try:
            if (device / "vendor").read_text().strip() == _GOOGLE:
                name = _PCI_NAMES.get((device / "device").read_text().strip())
                if name:
                    return name
        except OSError:  # a device that has gone
            continue
    return None
