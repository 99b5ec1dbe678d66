"""The compiler flag that plans and runs on TPUs share. It must be in the environment before libtpu is loaded, so this
file imports nothing that could load it."""

from __future__ import annotations

import os

VARIABLE = "LIBTPU_INIT_ARGS"
# XLA turns products with gathered weights into a ring of permutes and partial sums. With the long rows of training,
# moving the sums to HBM and back costs more time than the ring hides.
NAME = "--xla_jf_spmd_threshold_for_windowed_einsum_mib"
FLAG = f"{NAME}=1000000"


def set_flag() -> bool:
    """Add the flag to LIBTPU_INIT_ARGS; False if it is there already, with whatever value."""
    given = os.environ.get(VARIABLE, "")
    if NAME in given:
        return False
    os.environ[VARIABLE] = f"{given} {FLAG}".strip()
    return True


def flags() -> str:
    """The flags that programs are compiled with."""
    return os.environ.get(VARIABLE, "")
