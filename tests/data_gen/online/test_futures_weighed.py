"""How much simulated futures count in a value: as much as they are seen not to be chance."""

import dataclasses
import json

import numpy as np
import pytest

from data_gen.online.advantages import Group, credited, siblings
from data_gen.online.spread import ALL, Seen, Spread
from helpers.rewarded_tree import SETTINGS, tree

IN_FULL = dataclasses.replace(SETTINGS, weigh=False)


def test_a_group_tells_chance_from_what_its_futures_differ_by():
    """Own rewards 1 and 2, futures (0, 2) and (3, 2) after them: their means 1 and 2.5 have the variance 9/8, and what
    neither siblings nor futures explain is 3/4 everywhere, so the error is 4 x 9/16 / 2 = 9/8: all may be chance."""
    group = Group(3, ("a", "b"), np.array([[1.0, 3.0], [5.0, 4.0]]), np.array([1.0, 2.0]))
    assert group.seen == Seen(3, 1.125, 1.125)
    assert group.weighed(0.5).returns.tolist() == [[1.0, 2.0], [3.5, 3.0]]
    assert group.weighed(0.0).values.tolist() == [1.0, 2.0]
    assert Group(3, ("a", "b"), group.returns[:, :1], group.own).seen is None  # one future shows no error
    assert Group(3, ("a", "b"), group.returns).seen is None
    assert Group(3, ("a", "b"), None).weighed(0.5).returns is None


def test_the_weight_runs_by_turn():
    """Variance 4 and error 1 in turn 1, 2 and 2 in turn 2: 3/4 and 0 by themselves, 1/2 for all. Drawn towards that,
    turn 1 has 1 - (1 + 8 x 3/2) / (4 + 8 x 3)."""
    spread = Spread().seen([Seen(1, 4.0, 1.0), Seen(2, 2.0, 2.0)])
    assert spread.weight(ALL) == pytest.approx(1 - 1.5 / 3)
    assert spread.weight(1) == pytest.approx(1 - 13 / 28)
    assert spread.weight(9) == pytest.approx(0.5)
    assert spread.seen([]).weight(1) == pytest.approx(1 - (0.9 + 12) / (3.6 + 24))
    assert Spread().weight(1) == 1.0
    assert Spread().seen([Seen(1, 1.0, 3.0)]).weight(1) == 0.0
    assert Spread.read(json.loads(json.dumps(spread.plain()))) == spread


def test_one_future_counts_in_full():
    found = [tree()]
    assert credited(found, SETTINGS, Spread()) == credited(found, IN_FULL, Spread())
    assert siblings(found, SETTINGS) == siblings(found, IN_FULL)


@pytest.mark.parametrize("later", [0.0, 0.2, 1.0])
def test_weighed_values_are_nearer_to_the_truth(later):
    """400 groups of 4 siblings and 2 futures: own rewards spread by 1, what follows truly by `later`, chance by 0.8.
    The weight is later^2 / (later^2 + 0.8^2 / 2) up to the error of the estimate, about sqrt(2 / 1200) of 1, and the
    squared error of the weighed values is not above that of either value without: 1/2 x 0.8^2 of all futures in full,
    later^2 of none."""
    rng = np.random.default_rng(0)
    own, follows = rng.normal(size=(400, 4)), later * rng.normal(size=(400, 4))
    chance = 0.8 * rng.normal(size=(400, 4, 2))
    returns = (own + follows)[..., None] + chance
    groups = [Group(1, tuple("abcd"), *each) for each in zip(returns, own, strict=True)]
    weight = Spread().seen([group.seen for group in groups]).weight(1)
    assert weight == pytest.approx(later**2 / (later**2 + 0.32), abs=0.1)

    def error(values):
        off = np.array(values) - (own + follows)
        return ((off - off.mean(1, keepdims=True)) ** 2).mean()

    weighed = error([group.weighed(weight).values for group in groups])
    assert weighed <= 1.02 * min(error([group.weighed(full).values for group in groups]) for full in (0.0, 1.0))
