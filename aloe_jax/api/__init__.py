"""The public Python interface, which `aloe_jax/__init__.py` names. It computes without lines of libraries on stderr."""

from aloe_jax.api.quiet import choose_devices

choose_devices()  # before the files here import JAX
