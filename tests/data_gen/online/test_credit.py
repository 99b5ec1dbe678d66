"""Rewards, values and advantages of a tree made by hand, with the arithmetic in the docstrings."""

import dataclasses
import json
import math

import numpy as np
import pytest

from aloe_jax.tree.schema import Conversation, Item
from data_gen.online.advantages import Counts, Group, credited, groups, siblings
from data_gen.online.methods import METHODS, chain, leaf, turn
from data_gen.online.rewards import BELIEF, POTENTIAL, SCORE, TOTAL, part, penalties, rewarded, true_items
from data_gen.online.settings import RewardSettings
from data_gen.online.spread import Spread
from data_gen.world.personas import scripted_personas
from data_gen.world.styles import change_of
from helpers.rewarded_tree import PERSONA, SETTINGS, reply, total, tree, user


def test_rewards():
    """gamma = 0.5, and scores s of 3, 5, 2, 4 and 5 are 1/2, 1, 1/4, 3/4 and 1:

    a1.1: 1/2 + (1/2 x 2/3 - 2/5) = 13/30        a2.1: 1/4 + (1/2 x 6/7 - 2/3) = 1/84
    a1.2: 1 + (1/2 x 2/5 - 2/5) = 4/5            a1.2/a2.1: 3/4 + (1/2 x 2/3 - 2/5) = 41/60
    a3.1, the last turn, after which Phi is 0: 1 - 6/7 = 1/7
    """
    found = tree()
    totals = {node.id: part(node, TOTAL) for node in found.replies()}
    expected = {"a1.1": 13 / 30, "a1.2": 4 / 5, "a2.1": 1 / 84, "a1.2/a2.1": 41 / 60, "a3.1": 1 / 7}
    assert totals == pytest.approx(expected)
    assert part(found.node("u3"), POTENTIAL) == pytest.approx(6 / 7)
    assert part(found.node("a2.1"), SCORE) == 0.25
    assert part(found.node("a2.1"), BELIEF) == pytest.approx(3 / 7 - 2 / 3)


def test_values_and_advantages():
    """Q(a1.1) = 13/30 + 1/2 x 1/84 = 123/280 and Q(a1.2) = 4/5 + 1/2 x 41/60 = 137/120: with one other sibling the
    advantages are their difference, -59/84, and its negative. Their sample variance is (59/84)^2 / 2, which as the
    first of its turn is the spread, so the divided ones are -sqrt(2) and sqrt(2)."""
    found = tree()
    [group] = groups(found, SETTINGS)
    assert (group.turn, group.replies) == (1, ("a1.1", "a1.2"))
    assert group.values == pytest.approx([123 / 280, 137 / 120])
    [advantages] = siblings([found], SETTINGS)
    assert advantages == pytest.approx({"a1.1": -59 / 84, "a1.2": 59 / 84})
    [trained], spread, counts = credited([found], SETTINGS, Spread())
    assert spread.of("personality", 1) == pytest.approx(59 / 84 / math.sqrt(2))
    assert trained.node("a1.1").value == pytest.approx(123 / 280)
    assert trained.node("a1.1").advantage == pytest.approx(-math.sqrt(2))
    assert trained.node("a1.2").advantage == pytest.approx(math.sqrt(2))
    assert {node.id for node in trained.nodes if node.advantage is None} == {node.id for node in found.nodes} - {
        "a1.1",
        "a1.2",
    }
    assert counts == Counts(groups=1)


def test_the_baseline_leaves_the_reply_out():
    """A_i = k / (k - 1) (Q_i - mean Q): 3/2 of 1, 2, 6 less 3."""
    nodes = [user("u1", None, 1), *(reply(f"a1.{number}", "u1", 1.0) for number in (1, 2, 3))]
    values = {"a1.1": 1.0, "a1.2": 2.0, "a1.3": 6.0}
    scored = [
        node.model_copy(update={"scores": total(values[node.id])}) if node.role == "assistant" else node
        for node in nodes
    ]
    one = Conversation(id="t", persona=PERSONA, nodes=tuple(scored), path=("u1", "a1.1"))
    [advantages] = siblings([one], dataclasses.replace(SETTINGS, turns=1))
    assert advantages == pytest.approx({"a1.1": -3.0, "a1.2": -1.5, "a1.3": 4.5})


def test_methods_to_compare_with():
    """Turn: 13/30 - 4/5 = -11/30; the other turns have no tree to compare with. Chain: the dialogue's return is
    123/280 + 1/4 x 1/7 = 19/40; that of the other tree, all of whose scores are 1, is lower, so the two are one
    standard deviation off. Leaf: 19/40 and 137/120 are one off within the tree and one off across the only tree."""
    found = tree()
    assert turn([found], SETTINGS) == [pytest.approx({"a1.1": -11 / 30, "a1.2": 11 / 30})]
    worse = tree((1.0,) * 5, "t2")
    on_path = {"a1.1", "a2.1", "a3.1"}
    assert chain([found, worse], SETTINGS) == [
        pytest.approx(dict.fromkeys(on_path, 1.0)),
        pytest.approx(dict.fromkeys(on_path, -1.0)),
    ]
    below = {**dict.fromkeys(on_path, -2.0), "a1.2": 2.0, "a1.2/a2.1": 2.0}
    assert leaf([found], SETTINGS) == [pytest.approx(below)]
    by_turn = turn([found, worse], SETTINGS)
    assert by_turn[0]["a3.1"] == pytest.approx(part(found.node("a3.1"), TOTAL) - part(worse.node("a3.1"), TOTAL))
    assert set(METHODS) == {"siblings", "tree", "turn", "chain", "leaf", "pairs"}


def test_a_reply_above_several_leaves_has_their_mean():
    """Two siblings at the second turn: +2 and -2 below the first reply, which has 0."""
    nodes = (
        user("u1", None, 1),
        reply("a1.1", "u1", 3.0),
        user("u2", "a1.1", 2),
        reply("a2.1", "u2", 5.0),
        reply("a2.2", "u2", 1.0),
    )
    settings = dataclasses.replace(SETTINGS, turns=2)
    path = ("u1", "a1.1", "u2", "a2.1")
    found = rewarded(Conversation(id="t", persona=PERSONA, nodes=nodes, path=path), settings)
    assert leaf([found], settings) == [pytest.approx({"a1.1": 0.0, "a2.1": 2.0, "a2.2": -2.0})]


def test_groups_without_spread():
    """Futures as columns. In the first group the siblings differ by 1 in both, so nothing is error. In the second their
    means are 2 and 2.5, with a variance of 1/8; what neither siblings nor futures explain is 3/4 everywhere, so the
    error is 4 x 9/16 / (1 x 1) / 2 = 9/8."""
    sure = Group(1, ("a", "b"), np.array([[1.0, 3.0], [2.0, 4.0]]))
    assert (sure.variance, sure.error, sure.flat) == (0.5, 0.0, False)
    unsure = Group(1, ("a", "b"), np.array([[1.0, 3.0], [3.0, 2.0]]))
    assert (unsure.variance, unsure.error, unsure.flat) == (0.125, 1.125, True)
    assert Group(1, ("a", "b"), np.array([[1.0], [1.0]])).flat
    assert not Group(1, ("a", "b"), np.array([[1.0], [1.1]])).flat


def test_flat_and_unscored_groups_have_no_advantages_and_are_counted():
    one_turn = dataclasses.replace(SETTINGS, turns=1)
    nodes = (user("u1", None, 1), reply("a1.1", "u1", 3.0), reply("a1.2", "u1", 3.0))
    flat = rewarded(Conversation(id="t", persona=PERSONA, nodes=nodes, path=("u1", "a1.1")), one_turn)
    found, spread, counts = credited([flat], one_turn, Spread())
    assert {node.advantage for node in found[0].nodes} == {None}
    assert (counts, spread) == (Counts(groups=1, flat=1), Spread())
    silent = tree((3.0, 5.0, 2.0, None, 5.0))
    assert part(silent.node("a1.2/a2.1"), TOTAL) is None
    [found], _, counts = credited([silent], SETTINGS, Spread())
    assert {node.advantage for node in found.nodes} == {None}
    assert counts == Counts(groups=1, unscored=1)


def test_the_spread_runs_by_turn_and_group():
    """Variances 1 and 3 of the first turn, then 4: (0.9 x (1 + 3) + 4) / (0.9 x 2 + 1) = 7.6 / 2.8. The group g saw 3
    and then 4: (0.9 x 3 + 4 + 8 x 7.6 / 2.8) / (0.9 + 1 + 8)."""
    spread = Spread().updated([("f", 1, 1.0), ("g", 1, 3.0)]).updated([("g", 1, 4.0)])
    assert spread.of("", 1) ** 2 == pytest.approx(7.6 / 2.8)
    assert spread.of("new", 1) == pytest.approx(spread.of("", 1))
    assert spread.of("g", 1) ** 2 == pytest.approx((6.7 + 8 * 7.6 / 2.8) / 9.9)
    assert Spread.read(json.loads(json.dumps(spread.plain()))) == spread


def test_what_is_true_of_a_user_that_changes_a_preference():
    """The new setting from its turn on, and the one of that axis which it gives up before."""
    personas = scripted_personas("train", profiles=12, personalities=12, seed=0, pairings=1)
    persona = next(each for each in personas if change_of(each))
    new, turn = change_of(persona)
    before, after = true_items(persona, turn - 1), true_items(persona, turn)
    assert after - before == {f"{new.id}@{turn}"}
    [old] = before - after
    assert (old.split(".")[0], old == new.id) == (new.axis, False)
    assert not any(id.startswith("event.") for id in before | after)


def test_penalties():
    """Three questions are two above the budget; 90 words are half of 60 above it."""
    persona = PERSONA.model_copy(update={"facts": (Item(id="f1", text="Works as a nurse in a hospital."),)})

    def of(text, earlier="Nothing like that was said here before.", shown=0):
        path = [user("u1", None, 0), reply("a1.1", "u1", 3.0), user("u2", "a1.1", shown), reply("a2.1", "u2", 3.0)]
        path[1], path[3] = (path[row].model_copy(update={"text": said}) for row, said in ((1, earlier), (3, text)))
        return {name: value for name, value in penalties(persona, path, RewardSettings()).items() if value}

    assert of("All quiet?") == {}
    assert of("Now? Here? Why?") == pytest.approx({"questions": -0.2})
    long = " ".join(f"word{number}" for number in range(90))
    assert of(long) == pytest.approx({"length": -0.05})
    assert of(text := "The kettle sings about old rivers and bread.", text) == pytest.approx({"repetition": -0.2})
    assert of("A nurse in a hospital has it hard.") == pytest.approx({"leak": -0.2})
    assert of("A nurse in a hospital has it hard.", shown=1) == {}
