"""Which accelerators this machine has, as far as can be told before JAX is loaded."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def leave_libtpu_alone() -> None:
    """libtpu may be there to compile for TPUs on a machine that has none. JAX would try it as a device all the same,
    and it would complain of the missing chips on stderr."""
    if importlib.util.find_spec("libtpu") and not _chips() and not _gpu():
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _chips() -> list[Path]:
    """Devices that Linux gives to programs for TPUs, and for some other accelerators."""
    return [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*")]


def _gpu() -> bool:
    return any(importlib.util.find_spec(f"jax_{name}_plugin") for name in ("cuda12", "cuda13", "rocm7"))


def has_tpus() -> bool:
    """Whether JAX will compute on TPUs, as far as can be told before it is loaded."""
    others = os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu"
    return bool(importlib.util.find_spec("libtpu") and _chips()) and not _gpu() and not others
