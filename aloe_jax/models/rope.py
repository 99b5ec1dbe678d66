"""Rotary position embeddings (arXiv 2104.09864): the frequencies of a layer, and the rotation of queries and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's context extension: long wavelengths are stretched by `factor`, short ones are kept, those between are
    interpolated (Llama 3.1 model card; `rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        wavelength = 2 * math.pi / frequencies
        low, high = self.low_freq_factor, self.high_freq_factor
        kept = np.clip((self.original_context / wavelength - low) / (high - low), 0.0, 1.0)
        return kept * frequencies + (1 - kept) * frequencies / self.factor


@dataclass(frozen=True)
class LinearScaling:
    """Every position divided by `factor` (arXiv 2306.15595; `rope_type: linear`)."""

    factor: float

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        return frequencies / self.factor


@dataclass(frozen=True)
class Rope:
    """Base frequency and scaling of one layer's rotary embedding."""

    theta: float
    scaling: Llama3Scaling | LinearScaling | None = None

    def frequencies(self, head_dim: int) -> Float[np.ndarray, Half]:
        """Radians per position of each of the head_dim / 2 pairs, f64."""
        plain = self.theta ** -(np.arange(0, head_dim, 2) / head_dim)
        return plain if self.scaling is None else self.scaling(plain)


def rotary(
    x: Float[Array, "B T N K"], positions: Int[Array, "B T"], frequencies: Float[Array, Half]
) -> Float[Array, "B T N K"]:
    """`x` with each pair (k, k + K / 2), as Hugging Face stores them, rotated by position x frequency."""
    angle = positions[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
