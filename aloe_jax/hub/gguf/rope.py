"""Llama 3.1's rotary scaling: from the factors in a GGUF file back to the parameters of config.json.

llama.cpp stores the divisor of each frequency, one factor per pair of dimensions (`rope_freqs.weight`):

    factor_i = 1 / ((1 - s_i) / factor + s_i),    s_i = clip((original / wavelength_i - low) / (high - low), 0, 1)

The same factors come from any common multiple of (original, low, high); `low` is 1 in every published model. With few
dimensions a range of parameters gives the same factors; then the usual ones are used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

HIGH = 4.0  # high_freq_factor of Llama 3.1, 3.2 and 3.3
ORIGINAL = (8192, *(2**power for power in range(4, 24)))  # original contexts: theirs, then any power of two
# The converter computes wavelengths in f32: rounding the exponent alone moves theta^x by ln(theta) 2^-25 = 4e-7 of it.
WAVELENGTH_ERROR = 2.0**-20


def llama3_scaling(factors: np.ndarray, theta: float) -> dict[str, object] | None:
    """The `rope_scaling` field that gives `factors` [head_dim / 2] at the base `theta`; {} if all factors are 1, None
    if no parameters give them."""
    if np.all(factors == 1):
        return {}
    stored = factors.astype(np.float64)
    wavelengths = 2 * np.pi * theta ** (np.arange(len(stored)) / len(stored))
    scale = float(stored.max())
    if not (stored.min() >= 1 and scale < np.inf):
        return None
    for original, high in _candidates(stored, wavelengths, scale):
        if high > 1 and _equal(wavelengths, stored, scale, original, high):
            return {
                "rope_type": "llama3",
                "factor": float(str(np.float32(scale))),
                "low_freq_factor": 1.0,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    return None


def _equal(wavelengths: np.ndarray, stored: np.ndarray, scale: float, original: int, high: float) -> bool:
    """Whether the parameters give the factors, up to the rounding of the wavelengths: original / wavelength is `high`
    at most where it matters, so s moves by high / (high - 1) times that error, and 1 / factor by no more."""
    smooth = np.clip((original / wavelengths - 1) / (high - 1), 0, 1)
    error = np.abs((1 - smooth) / scale + smooth - 1 / stored)
    return bool(np.all(error <= WAVELENGTH_ERROR * high / (high - 1)))


def _candidates(stored: np.ndarray, wavelengths: np.ndarray, scale: float) -> Iterator[tuple[int, float]]:
    """Original contexts and high_freq_factors to try: the usual ones, then those from the factors between 1 and
    `scale`: s = slope / wavelength + offset with slope = original / (high - 1), offset = -1 / (high - 1)."""
    yield from ((original, HIGH) for original in ORIGINAL)
    between = (stored > 1) & (stored < scale)
    smooth = (1 / stored[between] - 1 / scale) / (1 - 1 / scale)
    if len(smooth) >= 1:
        yield round(float(np.mean(wavelengths[between] * (1 + smooth * (HIGH - 1))))), HIGH
    if len(smooth) >= 2:
        slope, offset = _line(1 / wavelengths[between], smooth)
        if offset < 0 and np.isfinite([slope, offset]).all():
            yield round(float(-slope / offset)), round(float(1 - 1 / offset), 3)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the least-squares line; none (slope 0) if all `x` are equal, as at the base 1."""
    apart = x - x.mean()
    spread = float(apart @ apart)
    slope = float(apart @ y) / spread if spread > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())
