"""Schedule and clipping by hand, and values that are refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.settings import plain, read
from aloe_jax.train.forward import Compute
from aloe_jax.train.optimizer import OptimizerSettings, learning_rate, make_optimizer

SETTINGS = OptimizerSettings(learning_rate=0.5, warmup=0.2, schedule="cosine")


def test_cosine_schedule():
    """Ten steps, two of warm-up to 0.5: a third and two thirds of it, then 0.5 (1 + cos(pi k / 8)) / 2, and 0 after the
    last one."""
    rate = learning_rate(SETTINGS, 10)
    expected = [1 / 6, 1 / 3, *(0.25 * (1 + math.cos(math.pi * k / 8)) for k in range(9))]
    np.testing.assert_allclose([rate(step) for step in range(11)], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("clip_norm", "scale"), [(1.0, 1 / 13), (6.5, 0.5), (13.5, 1.0)])
def test_the_gradient_is_clipped_by_the_norm_of_all_of_it(clip_norm, scale):
    """Parts (3, 4) and 12 have the norm 13. AdamW's own step hardly depends on its length; its moments do."""
    params = {"first": jnp.zeros(2), "second": jnp.zeros(1)}
    grads = {"first": jnp.array([3.0, 4.0]), "second": jnp.array([12.0])}
    optimizer = make_optimizer(dataclasses.replace(SETTINGS, clip_norm=clip_norm), 10)
    updates, state = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    moments = state[1][0]
    for name, grad in grads.items():
        np.testing.assert_allclose(moments.mu[name], 0.1 * scale * grad, rtol=1e-6)
        np.testing.assert_allclose(moments.nu[name], 0.05 * (scale * grad) ** 2, rtol=1e-6)
        # The first step is the rate times the gradient's sign: 0.5 / 3 in the warm-up.
        np.testing.assert_allclose(updates[name], -0.5 / 3 * np.ones_like(grad), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", -1e-5, "above 0"),
        ("warmup", 100, "below 1: it is a share of the steps, so divide"),
        ("warmup", -0.1, "at least 0"),
        ("clip_norm", 0.0, "above 0; a large one, such as 1e9, clips nothing"),
        ("clip_norm", -1.0, "above 0"),
        ("b1", 1.0, "below 1"),
        ("b2", -0.5, "at least 0"),
        ("weight_decay", -0.1, "at least 0; 0 decays nothing"),
        ("schedule", "steps", "choose one of constant, linear, cosine"),
    ],
)
def test_values_that_train_nothing_or_the_wrong_way(name, value, message):
    assert read(OptimizerSettings, plain(SETTINGS), "config.sft") == SETTINGS
    with pytest.raises(InputError, match=rf"config\.sft\.{name}: '?{value}'? .*{message}"):
        read(OptimizerSettings, plain(SETTINGS) | {name: value}, "config.sft")


@pytest.mark.parametrize("chunk", [0, -1])
def test_chunks_of_nothing(chunk):
    with pytest.raises(InputError, match=rf"compute\.chunk: {chunk} must be at least 1; 256 is usual"):
        Compute(chunk=chunk)
