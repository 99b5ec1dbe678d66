"""Values backed up from simulated futures, by hand."""

import asyncio
import math

import pytest

from aloe_jax.tree.schema import Node
from data_gen.game.tree_growth import grow
from data_gen.game.values import backed_up, preferred_by_value
from helpers.plain_roles import PERSONA, TURNS, Responder, cast, changed


def node(name, parent, role, value=None):
    return Node(id=name, parent=parent, role=role, text=name, value=value)


# u1 - a (3) - u2 - c (5), d (1)
#    - b (3)
NODES = (
    node("u1", None, "user"),
    node("a", "u1", "assistant", 3.0),
    node("b", "u1", "assistant", 3.0),
    node("u2", "a", "user"),
    node("c", "u2", "assistant", 5.0),
    node("d", "u2", "assistant", 1.0),
)


def values(nodes):
    return {each.id: each.value for each in nodes if each.role == "assistant"}


def test_a_value_is_the_discounted_mean_of_its_future():
    """discount 0.5: N(a) = 3 + 0.5 (5 + 1) / 2 = 4.5, D(a) = 1 + 0.5, value 3; with d at 5 it is (3 + 2.5) / 1.5."""
    assert values(backed_up(NODES, 0.5)) == {"a": 3.0, "b": 3.0, "c": 5.0, "d": 1.0}
    better = (*NODES[:-1], node("d", "u2", "assistant", 5.0))
    assert values(backed_up(better, 0.5))["a"] == pytest.approx(5.5 / 1.5)


def dialogue(scores):
    """u1 - a1, b1; a1 - u2 - a2 - u3 - a3 ... to the end of the main path, b1 - v2 - b2 - v3 - b3 ... beside it."""
    nodes = [node("u1", None, "user")]
    nodes += [node(f"{side}1", "u1", "assistant", found[0]) for side, found in scores.items()]
    for side, found in scores.items():
        for turn, score in enumerate(found[1:], start=2):
            nodes.append(node(f"{side}u{turn}", f"{side}{turn - 1}", "user"))
            nodes.append(node(f"{side}{turn}", f"{side}u{turn}", "assistant", score))
    return nodes


def test_siblings_have_one_horizon():
    """Scores rise by a point per turn whoever replies; the drawn reply a1 went on for four turns, b1 for depth = 2.
    Both: N = 1 + 0.5 (2 + 0.5 * 3) = 2.75, D = 1 + 0.5 (1 + 0.5) = 1.75. Over its whole rest a1 would have
    (1 + 1 + 0.75 + 0.5 + 0.3125) / 1.9375 = 1.84 against 1.57, and be preferred for having been drawn."""
    nodes = dialogue({"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [1.0, 2.0, 3.0]})
    found = values(backed_up(nodes, 0.5, 2))
    assert found["a1"] == found["b1"] == pytest.approx(2.75 / 1.75)
    assert preferred_by_value(backed_up(nodes, 0.5, 2), 0.0, "judge") == ()
    assert found["a3"] == pytest.approx((3 + 0.5 * (4 + 0.5 * 5)) / 1.75)
    assert found["a5"] == 5.0


def test_a_future_that_ended_early_cuts_that_of_its_sibling():
    """b1 ended after one of two turns: both count one, (1 + 0.5 * 2) / 1.5 and (1 + 0.5 * 4) / 1.5."""
    found = values(backed_up(dialogue({"a": [1.0, 2.0, 9.0], "b": [1.0, 4.0]}), 0.5, 2))
    assert (found["a1"], found["b1"]) == (pytest.approx(2 / 1.5), pytest.approx(3 / 1.5))


def test_unscored_replies_count_for_nothing():
    """a is unscored: its value is its future's; d is: the future is c alone."""
    nodes = [each.model_copy(update={"value": None}) if each.id in ("a", "d") else each for each in NODES]
    found = values(backed_up(nodes, 0.5))
    assert found == {"a": 5.0, "b": 3.0, "c": 5.0, "d": None}


def test_values_make_preferences_between_replies_with_equal_chances():
    """c leads d by 4: margin tanh(4 / (2 * 0.5)); a and b are not compared, as only a has a future."""
    [pair] = preferred_by_value(backed_up(NODES, 0.5), 0.1, "judge")
    assert (pair.chosen, pair.rejected, pair.judge) == ("c", "d", "judge")
    assert pair.margin == pytest.approx(math.tanh(4.0))


def grown(shape):
    roles = cast(Responder(lambda turn, kind, number: f"{kind} {turn}.{number}"))
    return asyncio.run(grow("c1", PERSONA, roles, shape, 0))


def test_branches_grow_to_their_depth():
    """Three candidates per turn, two go on, those beside the main path for one turn: of the four turns of the main path
    the first three have a sibling with one more turn below, the last one has no turn left."""
    shape = changed(expand=2, depth=1)
    tree = grown(shape)
    users = [each for each in tree.nodes if each.role == "user"]
    assert len(users) == 4 + 3
    assert len(tree.path) == 2 * TURNS
    assert all("/" not in name for name in tree.path)
    for user in users:
        assert user.parent is None or tree.node(user.parent).role == "assistant"
        assert sum(each.parent == user.id for each in tree.replies()) == 3
    assert len({each.id for each in tree.nodes}) == len(tree.nodes) == 7 * 4


def test_a_full_tree():
    """expand 2 and depth 3 over four turns: 1, 2, 4, 8 messages."""
    tree = grown(changed(expand=2, depth=3))
    assert sum(each.role == "user" for each in tree.nodes) == 15


def test_messages_on_a_branch_answer_its_own_reply():
    tree = grown(changed(expand=2, depth=2))
    for each in tree.nodes:
        if each.role == "user" and each.parent is not None:
            assert f"after '{tree.node(each.parent).text}'" in each.text


def test_preferences_by_value_in_a_grown_tree():
    tree = grown(changed(expand=2, depth=1, discount=0.8, prefer="value"))
    assert tree.preferences
    for pair in tree.preferences:
        assert tree.node(pair.chosen).value > tree.node(pair.rejected).value
        assert tree.node(pair.chosen).parent == tree.node(pair.rejected).parent
