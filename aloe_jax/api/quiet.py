"""Computing without lines of libraries on stderr."""

from __future__ import annotations

import os
import sys

from aloe_jax.cli.devices import leave_libtpu_alone


def choose_devices() -> None:
    """Keep JAX from looking for TPUs where there are none, which would print warnings. Without effect once JAX has
    chosen its devices, or where JAX_PLATFORMS says which."""
    if os.environ.get("JAX_PLATFORMS"):
        return
    leave_libtpu_alone()
    if "jax" in sys.modules and (platforms := os.environ.get("JAX_PLATFORMS")):
        import jax

        jax.config.update("jax_platforms", platforms)
