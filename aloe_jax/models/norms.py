"""The decoder's norms, computed in f32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def rms_norm(
    x: Float[Array, "*B D"], scale: Float[Array, "*S D"], eps: float, axes: int = 1, offset: float = 0.0
) -> Float[Array, "*B D"]:
    """Root-mean-square norm over the last `axes` axes (arXiv 1910.07467), times `offset` + `scale`."""
    x32 = x.astype(jnp.float32)
    over = tuple(range(-axes, 0))
    normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=over, keepdims=True) + eps)
    return ((offset + scale.astype(jnp.float32)) * normed).astype(x.dtype)


def layer_norm(x: Float[Array, "*B D"], eps: float) -> Float[Array, "*B D"]:
    """Layer norm without weights (arXiv 1607.06450; OLMo, arXiv 2402.00838)."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps)).astype(x.dtype)
