"""Llama 3.1's rotary scaling from the factors that llama.cpp's converter writes."""

from __future__ import annotations

import numpy as np
import pytest

from aloe_jax.hub.gguf.rope import llama3_scaling
from helpers import hub_files


def _fields(factor, high, original):
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


@pytest.mark.parametrize(
    ("theta", "head_dim", "factor", "high", "original"),
    [
        (500_000.0, 128, 8.0, 4.0, 8192),  # Llama 3.1
        (500_000.0, 64, 32.0, 4.0, 8192),  # Llama 3.2 1B
        (500_000.0, 16, 8.0, 4.0, 32),  # no factor between 1 and 8: any original context from 26 to 32 gives them
        (10_000.0, 128, 4.0, 4.0, 3000),
        (1_000_000.0, 96, 16.0, 2.5, 5000),
    ],
)
def test_parameters_come_back(theta, head_dim, factor, high, original):
    expected = _fields(factor, high, original)
    assert llama3_scaling(hub_files.llama3_factors(theta, head_dim, **expected), theta) == expected


def test_common_multiples_give_the_same_factors():
    """(original, low, high) = (16384, 2, 8) means the same as (8192, 1, 4)."""
    doubled = _fields(8.0, 8.0, 16384) | {"low_freq_factor": 2.0}
    factors = hub_files.llama3_factors(500_000.0, 128, **doubled)
    assert llama3_scaling(factors, 500_000.0) == _fields(8.0, 4.0, 8192)


def test_no_scaling():
    assert llama3_scaling(np.ones(16, np.float32), 10_000.0) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda factors: factors[::-1],
        lambda factors: factors * np.float32(1 + 2**-15),
        lambda factors: np.where(np.arange(64) == 30, 2, factors),
        lambda factors: 1 / factors,
        lambda factors: np.where(np.arange(64) == 0, np.nan, factors),
        lambda factors: np.where(np.arange(64) == 63, np.inf, factors),
    ],
)
def test_other_factors_have_no_parameters(change):
    factors = hub_files.llama3_factors(500_000.0, 128, **_fields(8.0, 4.0, 8192))
    assert llama3_scaling(change(factors).astype(np.float32), 500_000.0) is None


def test_another_base_has_other_factors():
    factors = hub_files.llama3_factors(500_000.0, 128, **_fields(8.0, 4.0, 8192))
    assert llama3_scaling(factors, 10_000.0) is None
