"""What replies learn from by each method, on the tree of test_credit.py, where the arithmetic is."""

import dataclasses
import math
from contextlib import nullcontext

import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation
from data_gen.online.advantages import Counts
from data_gen.online.measures import measures
from data_gen.online.methods import METHODS, check_method, decided
from data_gen.online.round_settings import OnlineSettings
from data_gen.online.settings import RolloutSettings
from data_gen.online.spread import Spread
from helpers.rewarded_tree import PERSONA, SETTINGS, reply, total, tree, user

BY_TURN = {"method": "turn", "objective": "policy_gradient"}
CHAIN = {"method": "chain", "objective": "policy_gradient"}
ON_PATH = ("a1.1", "a2.1", "a3.1")


def credited(method, trees):
    found, spread, counts = METHODS[method].credited(trees, METHODS[method].shaped(SETTINGS), Spread())
    return found, spread, counts


def advantages(found):
    return {node.id: node.advantage for node in found.replies() if node.advantage is not None}


def test_siblings_and_pairs_know_the_future():
    """Q is 123/280 and 137/120, 59/84 apart: a preference with the margin 2p - 1 of the logistic function p of twice
    the difference, tanh(59/84)."""
    root = math.sqrt(2)
    for method in ("siblings", "pairs"):
        [found], spread, counts = credited(method, [tree()])
        assert advantages(found) == pytest.approx({"a1.1": -root, "a1.2": root})
        assert spread.of("personality", 1) == pytest.approx(59 / 84 / root)
        assert counts == Counts(groups=1)
    [preference] = found.preferences
    assert (preference.chosen, preference.rejected, preference.judge) == ("a1.2", "a1.1", "reward")
    assert preference.margin == pytest.approx(math.tanh(59 / 84))
    assert credited("siblings", [tree()])[0][0].preferences == ()


def test_pairs_leave_out_groups_without_spread():
    """All scores and what is shown below both siblings are alike, so that their values are."""
    alike = tree((3.0, 3.0, 3.0, 3.0, 3.0))
    nodes = [
        node.model_copy(update={"scores": alike.node(node.id.removeprefix("a1.2/").replace("a1.2", "a1.1")).scores})
        for node in alike.nodes
    ]
    [found], _, counts = credited("pairs", [alike.model_copy(update={"nodes": tuple(nodes)})])
    assert (found.preferences, counts.flat) == ((), 1)


def test_turn_has_no_future():
    """Rewards of 13/30 and 4/5 are 11/30 apart, which is sqrt(2) of their spread. The replies of later turns have none
    beside them in their tree, so they are compared with those of the other tree: all scores are one point lower there,
    1/4 of reward. No siblings were compared in these turns, so nothing is divided."""
    lower = tree((2.0, 4.0, 1.0, 3.0, 4.0), "t2")
    found, spread, counts = credited("turn", [tree(), lower])
    root = math.sqrt(2)
    later = {"a2.1": 1 / 4, "a3.1": 1 / 4}
    assert advantages(found[0]) == pytest.approx({"a1.1": -root, "a1.2": root, **later})
    assert advantages(found[1]) == pytest.approx(
        {"a1.1": -root, "a1.2": root, **{name: -value for name, value in later.items()}}
    )
    assert spread.of("personality", 1) == pytest.approx(11 / 30 / root)
    assert counts == Counts(groups=2)
    assert found[0].node("a1.1").value == pytest.approx(13 / 30)


def test_tree_learns_from_every_reply():
    """Siblings as above. a2.1 and a1.2/a2.1 are both in a future 0 and share its draws, so each is compared with the
    other tree's two replies of that turn: 1/84 and 41/60 less 1/4 each there. The last turn has one reply per tree."""
    lower = tree((2.0, 4.0, 1.0, 3.0, 4.0), "t2")
    found, _, counts = credited("tree", [tree(), lower])
    root, own, other = math.sqrt(2), 1 / 84, 41 / 60
    there = (own + other) / 2 - 1 / 4
    later = {"a2.1": own - there, "a1.2/a2.1": other - there, "a3.1": 1 / 4}
    assert advantages(found[0]) == pytest.approx({"a1.1": -root, "a1.2": root, **later})
    assert counts == Counts(groups=2)


def test_a_baseline_shares_no_draw_with_its_reply():
    """Two siblings with two futures of one turn. Those of number 0, one of them the main path, share their draws, and
    so do those of number 1: the rewards 1 and 2 are compared with the mean of 4 and 8, and the other way round."""
    rewards = {"a2.1": 1.0, "a1.1/f1/a2.1": 4.0, "a1.2/a2.1": 2.0, "a1.2/f1/a2.1": 8.0}
    nodes = [user("u1", None, 1), reply("a1.1", "u1", 1.0), reply("a1.2", "u1", 1.0)]
    for name in rewards:
        before = name.replace("a2.1", "u2")
        nodes += [user(before, "a1.2" if name.startswith("a1.2") else "a1.1", 2), reply(name, before, 1.0)]
    scored = [
        node.model_copy(update={"scores": total(rewards.get(node.id, 0.0))}) if node.role == "assistant" else node
        for node in nodes
    ]
    one = Conversation(id="t", persona=PERSONA, nodes=tuple(scored), path=("u1", "a1.1", "u2", "a2.1"))
    [found] = METHODS["tree"].advantages([one], dataclasses.replace(SETTINGS, turns=2), None)
    assert {name: found[name] for name in rewards} == pytest.approx(
        {"a2.1": -5.0, "a1.2/a2.1": -4.0, "a1.1/f1/a2.1": 2.5, "a1.2/f1/a2.1": 6.5}
    )


def test_chain_compares_the_dialogues_of_a_persona():
    """The dialogue's return is 19/40; with all scores one point lower it is 1/4 (1 + 1/2 + 1/4) less: two dialogues
    are one standard deviation off their mean."""
    found, _, _ = credited("chain", [tree(), tree((2.0, 4.0, 1.0, 3.0, 4.0), "t2")])
    assert advantages(found[0]) == pytest.approx(dict.fromkeys(ON_PATH, 1.0))
    assert advantages(found[1]) == pytest.approx(dict.fromkeys(ON_PATH, -1.0))
    assert measures(found, Counts())["zero_advantages"] == 0.0


def test_dialogues_with_equal_returns_are_counted():
    """The method compares no siblings, so no group's lack of spread would tell."""
    found, _, _ = credited("chain", [tree(), tree(name="t2")])
    assert advantages(found[0]) == dict.fromkeys(ON_PATH, 0.0)
    assert measures(found, Counts())["zero_advantages"] == 1.0


def test_leaf_spreads_returns_over_the_replies_above():
    """The leaves' returns are one off within the tree, and across the only one of its persona."""
    [found], _, _ = credited("leaf", [tree()])
    assert advantages(found) == pytest.approx({**dict.fromkeys(ON_PATH, -2.0), "a1.2": 2.0, "a1.2/a2.1": 2.0})


def test_what_methods_decide():
    shape = RolloutSettings(turns=4, siblings=4, futures=2, share=0.5)
    shapes = {name: method.shaped(shape) for name, method in METHODS.items()}
    assert shapes["siblings"] == shapes["pairs"] == shape
    assert [shapes["turn"].ahead(turn) for turn in (1, 2, 3, 4)] == [0, 0, 0, 0]
    assert [shapes["leaf"].ahead(turn) for turn in (1, 2, 3, 4)] == [3, 2, 1, 0]
    assert (shapes["chain"].siblings, shapes["chain"].share) == (1, 0.0)
    told = decided(OnlineSettings(method="turn", rollout=shape))
    assert told == "rollout.futures=1, rollout.horizon=0.0"
    assert decided(OnlineSettings()) == ""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"method": "grpo"}, "'grpo' is unknown; choose one of siblings, tree, turn, chain, leaf, pairs"),
        ({"objective": "dpo"}, "'dpo' does not learn from .* tree_regression, policy_gradient, distil, or .* of pairs"),
        ({"method": "chain"}, "'tree_regression' does not learn from .* set it to one of policy_gradient, or"),
        ({"objective": "sft"}, "'sft' does not learn from .* policy_gradient, distil$"),
        ({"method": "chain", "objective": "policy_gradient", "per_persona": 1}, "per_persona: .* 2, or to 0 for 4"),
        ({"trees": 9, "per_persona": 2}, "trees: 9 trees are not 2 for each persona"),
        ({"rollout": RolloutSettings(siblings=1)}, "rollout.siblings: 1, but the method 'siblings' .* at least 2"),
        ({"rollout": RolloutSettings(share=0.0)}, "rollout.share: 0, but the method 'siblings' .* at least 0.1"),
        ({"method": "turn", "rollout": RolloutSettings(share=0.0)}, "share: 0, but .* with the objective 'tree_regr"),
        ({**BY_TURN, "trees": 1, "rollout": RolloutSettings(share=0.0)}, "trees: 1, but without siblings .* least 2"),
        ({**CHAIN, "rollout": RolloutSettings(probes=2)}, "probes: 2, but .* to 0, or config.online.method to another"),
        ({"objective": "distil", "rollout": RolloutSettings(probes=1, share=0.0)}, "probes: 1, .*share to at least"),
    ],
)  # fmt: skip
def test_settings_that_contradict_the_method(given, sentence):
    with pytest.raises(InputError, match=sentence):
        check_method(dataclasses.replace(OnlineSettings(), **given))


def test_trees_that_are_compared_are_a_property_of_the_method(monkeypatch):
    """Whatever it is called."""
    alone = RolloutSettings(share=0.0)
    for across_trees in (True, False):
        monkeypatch.setitem(METHODS, "mine", dataclasses.replace(METHODS["turn"], across_trees=across_trees))
        with pytest.raises(InputError, match="the method 'mine' compares the trees") if across_trees else nullcontext():
            check_method(OnlineSettings(method="mine", objective="policy_gradient", trees=1, rollout=alone))


def test_settings_that_only_seem_to_contradict_it():
    check_method(OnlineSettings(**BY_TURN, rollout=RolloutSettings(share=0.0)))
    check_method(OnlineSettings(**BY_TURN, trees=1))
    check_method(OnlineSettings(method="pairs", objective="dpo", rollout=RolloutSettings(probes=2)))


@pytest.mark.parametrize(("keep_trees", "checkpoint_every", "kept"), [(5, 1, 5), (5, 10, 11), (1, 1, 2), (0, 10, 0)])
def test_trees_stay_as_long_as_rounds_may_have_to_be_computed_again(keep_trees, checkpoint_every, kept):
    assert OnlineSettings(keep_trees=keep_trees, checkpoint_every=checkpoint_every).kept == kept


def test_every_method_suits_some_settings():
    for name, method in METHODS.items():
        for objective in method.objectives:
            check_method(OnlineSettings(method=name, objective=objective))
