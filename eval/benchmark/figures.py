"""Figures of curves of alignment levels: improvement rate, coefficient of determination, and both after normalising.

With s[i, k] the score of case i at turn k: AL(k) = mean_i s[i, k]; the average is the mean of AL over the turns; IR
and R2 are slope and coefficient of determination of the least-squares line through AL(1..K); N-IR and N-R2 are the same
after AL is stretched to 0..1. N-R2 always equals R2, and N-IR does not depend on the size of the gain, so report
neither without AL and IR. Source: paper, section 4.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float

from aloe_jax.tree.schema import Record

# A curve counts as flat when it varies by less than this share of its own size: far above the rounding of a mean of
# thousands of scores (N x 2.2e-16), far below the smallest real step (one score of one case).
FLATNESS = 1e-10
T = TypeVar("T")


class Figures(Record, Generic[T]):
    """The figures by name, each a T: a value in `metrics.json`, or its interval."""

    AL: tuple[T, ...]  # by turn
    average: T
    IR: T
    R2: T
    N_IR: T
    N_R2: T


def is_flat(curves: Float[np.ndarray, "*S K"]) -> np.ndarray:
    """Whether each curve stays at one level (up to rounding)."""
    spread = curves.max(axis=-1) - curves.min(axis=-1)
    return spread <= FLATNESS * np.abs(curves).max(axis=-1)


def improvement_rate(curves: Float[np.ndarray, "*S K"]) -> Float[np.ndarray, "*S"]:
    """IR: slope of the least-squares line through each curve over turns 1..K, in points per turn; NaN if K is 1."""
    turns = np.arange(curves.shape[-1]) - (curves.shape[-1] - 1) / 2
    if turns.size < 2:
        return np.full(curves.shape[:-1], np.nan)
    return curves @ turns / (turns @ turns)


def r_squared(curves: Float[np.ndarray, "*S K"]) -> Float[np.ndarray, "*S"]:
    """R2: share of each curve's variance that its least-squares line explains, 0 to 1; NaN if flat."""
    turns = np.arange(curves.shape[-1]) - (curves.shape[-1] - 1) / 2
    centred = curves - curves.mean(axis=-1, keepdims=True)
    total = np.where(is_flat(curves), np.nan, np.square(centred).sum(axis=-1))
    share = np.square(improvement_rate(curves)) * (turns @ turns) / total
    return np.minimum(share, 1.0)  # rounding may pass 1


def normalised(curves: Float[np.ndarray, "*S K"]) -> Float[np.ndarray, "*S K"]:
    """N-AL: each curve stretched so that its lowest turn is 0 and its highest is 1; NaN if flat."""
    low = curves.min(axis=-1, keepdims=True)
    spread = np.where(is_flat(curves), np.nan, curves.max(axis=-1) - low[..., 0])
    return (curves - low) / spread[..., None]


def figures(curves: Float[np.ndarray, "*S K"]) -> dict[str, np.ndarray]:
    """The `Figures` of each curve of alignment levels, NaN if undefined: `AL` [*S, K], the others [*S]."""
    stretched = normalised(curves)
    return {
        "AL": curves,
        "average": curves.mean(axis=-1),
        "IR": improvement_rate(curves),
        "R2": r_squared(curves),
        "N_IR": improvement_rate(stretched),
        "N_R2": r_squared(stretched),
    }
