"""Eight virtual CPU devices for the whole session, so that meshes can be compared in one process."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from aloe_jax.parallel.mesh import make_mesh


@pytest.fixture(scope="session")
def one_device():
    return make_mesh(devices=jax.devices()[:1])
