"""Advantages from a node to the rows, and what an objective chooses by them."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from aloe_jax.errors import InputError
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.prune import advantaged, hinted, pruned
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import Conversation, Node, dump
from aloe_jax.tree.trie import build_trie
from helpers.tiny import CHAT

ROOM = Capacity(tokens=1_000, targets=500, replies=50, pairs=50)


def tree_of(*replies):
    """One user message and replies with these fields."""
    user = Node(id="u", parent=None, role="user", text="Tea?")
    return Conversation(
        id="c",
        nodes=(
            user,
            *(Node(**{"id": f"a{n}", "parent": "u", "role": "assistant", "text": f"Reply {n}.", **fields})
              for n, fields in enumerate(replies)),
        ),
    )  # fmt: skip


def parts_of(tree, room=ROOM):
    return fragments(tree, build_trie(tree, CHAT), room, 0)


def test_they_are_handed_on_and_chosen():
    """One that is flagged `no_loss` has none; 0 is an advantage."""
    tree = tree_of({"advantage": 1.5}, {}, {"advantage": 0.0}, {"advantage": -1.5, "flags": ("no_loss",)})
    (row,) = parts_of(tree)
    np.testing.assert_array_equal(row.advantage, [1.5, np.nan, 0.0, np.nan])
    assert advantaged(row).tolist() == [True, False, True, False]
    assert pruned(row, advantaged(row)).advantage.tolist() == [1.5, 0.0]
    assert not hinted(row).any()
    told = row.replace(hinted_log_prob=np.where(row.reply == 1, -2.0, np.nan).astype(np.float32))
    assert hinted(told).tolist() == [False, True, False, False]


def test_siblings_with_an_advantage_share_a_row():
    """Three of four replies have one and a row has room for three; where it has room for two, the need is told."""
    tree = tree_of({"advantage": 1.0}, {}, {"advantage": 0.0}, {"advantage": -1.0})
    parts = parts_of(tree, dataclasses.replace(ROOM, replies=3))
    assert [part.node.tolist() for part in parts] == [[1, 3, 4], [2]]
    with pytest.raises(InputError, match=r"node 'a0' .* needs 3 replies where a row has 2"):
        parts_of(tree, dataclasses.replace(ROOM, replies=2))


def test_fields_of_replies():
    """They are written and read back, and left out where there are none."""
    tree = tree_of({"advantage": -0.5, "policy": 7}, {})
    line = dump(tree)
    assert Conversation.model_validate_json(line) == tree
    assert line.count("advantage") == line.count("policy") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"advantage": float("nan")}, "finite number"),
        ({"policy": -1}, "greater than or equal to 0"),
        ({"role": "user", "advantage": 1.0}, "node 'a0' of role user has an advantage; expected one on replies alone"),
        ({"role": "user", "policy": 0}, "node 'a0' of role user has a policy; expected one on replies alone"),
    ],
)
def test_what_is_none(fields, message):
    with pytest.raises(ValidationError, match=message):
        tree_of(fields)
