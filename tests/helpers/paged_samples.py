"""Rows with their keys in pages, and attention over them in float64 as the definition says it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

UNIT = 2.0**-24  # relative error of one rounding to f32


class Paged(NamedTuple):
    """The operands of paged attention; pages that no row owns hold NaN."""

    query: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    tables: np.ndarray
    start: np.ndarray


def paged(start, new, seed=0, *, heads=6, groups=2, width=16, size=16, entries=8, dtype=jnp.float32):
    """Rows of `new` tokens from the positions `start` on, each with pages of its own, scattered over the pool. Table
    entries behind a row's last page name page 0, and pages in no row's table hold NaN."""
    rng = np.random.default_rng(seed)
    start = np.asarray(start, np.int32)
    batch, pages = len(start), 1 + len(start) * entries + 2
    numbers = rng.permutation(np.arange(1, pages))
    tables = np.zeros((batch, entries), np.int32)
    keys = np.full((pages, groups, size, width), np.nan, np.float32)
    values = keys.copy()
    for row, begin in enumerate(start):
        used = 0 if begin < 0 else min(entries, -(-(int(begin) + new) // size))
        tables[row, :used], numbers = numbers[:used], numbers[used:]
        for pool in (keys, values):
            pool[tables[row, :used]] = rng.normal(size=(used, *pool.shape[1:]))
    query = rng.normal(size=(batch, new, heads, width))
    arrays = [jnp.asarray(array, dtype) for array in (query, keys, values)]
    return Paged(*arrays, jnp.asarray(tables), jnp.asarray(start))


def exact(sample, scale, window=None, soft_cap=None):
    """(attention, slack, sizes) [B,T,H,K] in float64: one plain softmax per query and head.

    `sizes` is the weighted sum of absolute values, and slack x UNIT x sizes bounds the error of a computation in f32. A
    score is a sum of K products |q k|, then scaled, capped and subtracted from: K + 8 roundings, none larger than the
    largest such sum. That error is the relative one of its weight, twice because the divisor has it too, and the sums
    of weights and of values add as many roundings as tokens are seen.
    """
    query, keys, values, tables, start = (np.asarray(array, None) for array in sample)
    query, keys, values = (array.astype(np.float64) for array in (query, keys, values))
    batch, new, heads, width = query.shape
    groups, size = keys.shape[1:3]
    out, slack, sizes = np.zeros((3, *query.shape))
    for row in range(batch):
        for token in range(new if start[row] >= 0 else 0):
            position = int(start[row]) + token
            first = 0 if window is None else max(0, position - window + 1)
            seen = np.arange(first, position + 1)
            for head in range(heads):
                places = tables[row, seen // size], head // (heads // groups), seen % size
                products = keys[places] * query[row, token, head]
                scores = products.sum(axis=-1) * scale
                size_of_score = (width + 8) * (np.abs(products).sum(axis=-1).max() * scale + np.abs(scores).max())
                if soft_cap:
                    scores = soft_cap * np.tanh(scores / soft_cap)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                out[row, token, head] = weights @ values[places]
                slack[row, token, head] = 2 * size_of_score + len(seen) + 16
                sizes[row, token, head] = weights @ np.abs(values[places])
    return out, slack, sizes


def assert_exact(got, sample, scale, window=None, soft_cap=None):
    """Holds an output to the roundings of its own type: those to f32 that `exact` counts, and for bf16, 8 bits, also
    one of the weights and one of the result, each off by at most a 2^-8th."""
    expected, slack, sizes = exact(sample, scale, window, soft_cap)
    low = 2 * 2.0**-8 if got.dtype == jnp.bfloat16 else 0.0
    assert got.dtype == sample.query.dtype
    assert np.all(np.abs(np.asarray(got, np.float64) - expected) <= (slack * UNIT + low) * sizes)
