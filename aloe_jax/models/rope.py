"""Rotary position embeddings (arXiv 2104.09864): the frequencies of a layer, and the rotation of queries and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Scaling(Protocol):
    """A change of the frequencies, for contexts beyond those of pretraining."""

    @property
    def amplitude(self) -> float:
        """The factor of the rotated parts of queries and of keys."""
        ...

    def __call__(self, frequencies: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's context extension: long wavelengths are stretched by `factor`, short ones are kept, those between are
    interpolated (Llama 3.1 model card; `rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int
    amplitude: ClassVar[float] = 1.0

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        wavelength = 2 * math.pi / frequencies
        low, high = self.low_freq_factor, self.high_freq_factor
        kept = np.clip((self.original_context / wavelength - low) / (high - low), 0.0, 1.0)
        return kept * frequencies + (1 - kept) * frequencies / self.factor


@dataclass(frozen=True)
class LinearScaling:
    """Every position divided by `factor` (arXiv 2306.15595; `rope_type: linear`)."""

    factor: float
    amplitude: ClassVar[float] = 1.0

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        return frequencies / self.factor


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071, section 3.2): pairs that turn more than `beta_fast` times in the original context are
    kept, those that turn less than `beta_slow` times become `factor` times longer, those between are interpolated by
    their number. `theta` is the base of the frequencies."""

    theta: float
    factor: float
    amplitude: float
    beta_fast: float
    beta_slow: float
    original_context: int

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        pairs = len(frequencies)

        def number(turns: float) -> float:
            """Of the pair that turns that often, as a fraction."""
            return pairs * math.log(self.original_context / (2 * math.pi * turns)) / math.log(self.theta)

        low = max(math.floor(number(self.beta_fast)), 0)
        high = min(math.ceil(number(self.beta_slow)), 2 * pairs - 1)
        stretched = np.clip((np.arange(pairs) - low) / (high - low or 0.001), 0.0, 1.0)
        return frequencies * (1 - stretched + stretched / self.factor)


@dataclass(frozen=True)
class LongRopeScaling:
    """LongRoPE (arXiv 2402.13753): each frequency divided by a factor of its own.

    `short` is for sequences up to `original_context`, `long` for longer ones, up to `stated_context`. A longer sequence
    turns all its tokens by other angles, so it shares no beginning with a shorter one: here paths have at most
    `original_context` tokens, and `long` is kept for the export.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_context: int
    stated_context: int

    @property
    def amplitude(self) -> float:
        """The factor of the rotated parts of queries and of keys, the same for both kinds of sequences."""
        stretched = self.stated_context / self.original_context
        return math.sqrt(1 + math.log(stretched) / math.log(self.original_context)) if stretched > 1 else 1.0

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        return frequencies / np.asarray(self.short)


@dataclass(frozen=True)
class Rope:
    """Base frequency and scaling of one layer's rotary embedding. `share` of the dimensions of a head rotate, the first
    ones."""

    theta: float
    scaling: Scaling | None = None
    share: float = 1.0

    @property
    def amplitude(self) -> float:
        """The factor of the rotated parts of queries and of keys."""
        return 1.0 if self.scaling is None else self.scaling.amplitude

    def frequencies(self, head_dim: int) -> Float[np.ndarray, Half]:
        """Radians per position of each of the pairs, two dimensions each, that rotate, f64."""
        rotated = int(head_dim * self.share)
        plain = self.theta ** -(np.arange(0, rotated, 2) / rotated)
        return plain if self.scaling is None else self.scaling(plain)


def rotary(
    x: Float[Array, "B T N K"],
    positions: Int[Array, "B T"],
    frequencies: Float[Array, Half],
    amplitude: Float[Array, ""] | None = None,
) -> Float[Array, "B T N K"]:
    """`x` with each pair (k, k + half), as Hugging Face stores them, rotated by position x frequency and scaled by
    `amplitude`; half is the number of frequencies. Dimensions from 2 half on stay as they are."""
    half = frequencies.shape[-1]
    angle = positions[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if amplitude is not None:
        cos, sin = cos * amplitude, sin * amplitude
    ends = [end for end in (half, 2 * half) if end < x.shape[-1]]
    first, second, *rest = jnp.split(x.astype(jnp.float32), ends, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin, *rest], axis=-1)
    return rotated.astype(x.dtype)
