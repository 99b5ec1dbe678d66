"""Objectives by hand: the arithmetic stands in the docstrings."""

import math

import jax
import jax.numpy as jnp
import pytest

from aloe_jax.train.objectives import OBJECTIVES, Pairs, Replies


def replies(log_prob, reference=None, weighted=None, weight=None):
    count = len(log_prob)
    row = lambda values, default: jnp.asarray([values or [default] * count], jnp.float32)  # noqa: E731
    return Replies(row(log_prob, 0), row(weighted, 0), row(weight, 0), row(reference, 0), jnp.ones((1, count), int))


def pairs(*index, weight=None):
    return Pairs(jnp.asarray([index]), jnp.asarray([weight or [1.0] * len(index)]))


def mean(objective, replies, pairs, **config):
    total, weight, _ = OBJECTIVES[objective](replies, pairs, config)
    return float(total / weight)


def test_sft():
    """Weighted sums -6 and -2 over weights 3 and 1: -(-6 - 2) / (3 + 1) = 2."""
    given = replies([-9.0, -2.0], weighted=[-6.0, -2.0], weight=[3.0, 1.0])
    assert mean("sft", given, pairs((0, 1))) == pytest.approx(2.0)


def test_dpo():
    """beta 0.5; rewards 0.5 * (-4 + 6) = 1 and 0.5 * (-5 + 3) = -1; margin 2; loss log(1 + e^-2) = 0.126928."""
    given = replies([-4.0, -5.0], reference=[-6.0, -3.0])
    total, weight, metrics = OBJECTIVES["dpo"](given, pairs((0, 1)), {"beta": 0.5})
    assert float(total / weight) == pytest.approx(0.126928, abs=1e-6)
    expected = {"accuracy": 1.0, "reward_margin": 2.0, "reward_chosen": 1.0, "reward_rejected": -1.0}
    expected |= {"log_prob_chosen": -4.0, "log_prob_rejected": -5.0}
    assert {name: float(total / weight) for name, (total, weight) in metrics.items()} == pytest.approx(expected)


def test_dpo_starts_at_log_two():
    given = replies([-4.0, -5.0, -1.0], reference=[-4.0, -5.0, -1.0])
    assert mean("dpo", given, pairs((0, 1), (2, 1)), beta=0.9) == pytest.approx(math.log(2), abs=1e-7)


def test_dpo_swapped_pair():
    """loss(margin) - loss(-margin) = -margin, from log sigmoid(x) - log sigmoid(-x) = x."""
    given = replies([-4.0, -5.5], reference=[-4.5, -3.0])
    forward, back = mean("dpo", given, pairs((0, 1)), beta=0.3), mean("dpo", given, pairs((1, 0)), beta=0.3)
    margin = 0.3 * ((-4.0 + 4.5) - (-5.5 + 3.0))
    assert forward - back == pytest.approx(-margin, abs=1e-6)


def test_padding_pairs_weigh_nothing():
    given = replies([-4.0, -5.0], reference=[-6.0, -3.0])
    padded = pairs((0, 1), (0, 0), weight=[1.0, 0.0])
    assert mean("dpo", given, padded, beta=0.5) == pytest.approx(mean("dpo", given, pairs((0, 1)), beta=0.5))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_is_finite_for_extreme_margins(objective):
    def loss(log_prob):
        given = Replies(log_prob, log_prob, jnp.ones((1, 2)), jnp.zeros((1, 2)), jnp.ones((1, 2), int))
        return OBJECTIVES[objective](given, pairs((0, 1)), {"beta": 0.9})[0]

    for values in ([-1e4, 0.0], [0.0, -1e4]):
        assert jnp.all(jnp.isfinite(jax.grad(loss)(jnp.asarray([values]))))
