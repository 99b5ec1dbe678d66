"""Packing: capacities, offsets, padding, determinism; and the structure of packed random trees."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, best_fit_in_order, empty_row, pack, stack
from aloe_jax.tree.row import Capacity, TreeRow, allowed
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import aloe_tree, chat_format, trees

ROOM = Capacity(tokens=4_000, targets=2_000, replies=100, pairs=100)


def sizes_of(parts):
    return np.array([part.sizes for part in parts]).reshape(-1, 4)


def test_best_fit_by_hand():
    """Rows of 10: 7 opens row 0, 6 row 1, 4 fills row 1, 3 fills row 0, 2 opens row 2."""
    sizes = np.array([[2, 1, 1, 0], [7, 1, 1, 0], [4, 1, 1, 0], [3, 1, 1, 0], [6, 1, 1, 0]])
    assert best_fit(sizes, Capacity(10, 9, 9, 0)) == [[1, 3], [4, 2], [0]]


def test_best_fit_takes_the_fullest_row_that_holds_it():
    sizes = np.array([[6, 1, 1, 0], [5, 1, 1, 0], [4, 1, 1, 0]])
    assert best_fit(sizes, Capacity(10, 9, 9, 0)) == [[0, 2], [1]]


@pytest.mark.parametrize("column", [1, 2, 3])
def test_best_fit_minds_every_capacity(column):
    sizes = np.ones((4, 4), int)
    sizes[:, column] = 5
    room = [100, 100, 100, 100]
    room[column] = 10
    assert best_fit(sizes, Capacity(*room)) == [[0, 1], [2, 3]]


def test_best_fit_names_what_never_fits():
    with pytest.raises(InputError, match=r"fragment 1 needs .* = \(11, 1, 1, 0\)"):
        best_fit(np.array([[1, 1, 1, 0], [11, 1, 1, 0]]), Capacity(10, 9, 9, 0))


def test_in_order_by_hand():
    """Rows of 10 tokens: 3 and 4 share row 0 and 7 opens row 1; 3 fits both and leaves nothing in either, so the first
    gets it. 6 opens row 2, and 1 goes into row 1, where it leaves fewer free tokens. With at most two items per row,
    3 must go into row 1, and 1 into row 2."""
    needs = np.array([[3, 1], [4, 1], [7, 1], [3, 1], [6, 1], [1, 1]])
    assert best_fit_in_order(needs, (10, 3)) == [[0, 1, 3], [2, 5], [4]]
    assert best_fit_in_order(needs, (10, 2)) == [[0, 1], [2, 3], [4, 5]]


def test_in_order_closes_the_fullest_row_where_too_many_wait():
    """4, 7 and 8 of 10 each open a row; with at most two open rows the row of 8 is closed, so 2 goes into the row of
    7."""
    needs = np.array([[4], [7], [8], [2]])
    assert best_fit_in_order(needs, (10,)) == [[0], [1], [2, 3]]
    assert best_fit_in_order(needs, (10,), most_open=2) == [[0], [1, 3], [2]]


@given(
    st.lists(st.tuples(*[st.integers(1, 20)] * 4), max_size=40).map(lambda rows: np.array(rows, int).reshape(-1, 4)),
    st.tuples(*[st.integers(20, 60)] * 4),
)
def test_plans_hold_every_fragment_once_within_all_capacities(sizes, room):
    plan = best_fit(sizes, Capacity(*room))
    assert sorted(index for row in plan for index in row) == list(range(len(sizes)))
    assert all((sizes[row].sum(axis=0) <= room).all() for row in plan)
    assert plan == best_fit(sizes, Capacity(*room))


def test_padding_sees_itself_and_carries_nothing():
    capacity = Capacity(tokens=5, targets=4, replies=3, pairs=2)
    row = empty_row(capacity)
    np.testing.assert_array_equal(allowed(row.positions, row.subtree_end), np.eye(5, dtype=bool))
    assert row.reply.tolist() == [3] * 4
    assert row.conversation.tolist() == row.node.tolist() == [-1] * 3
    unknown = {"value", "advantage", "hinted_log_prob"}
    assert all(np.isnan(getattr(row, name)).all() for name in unknown)
    named = {"subtree_end", "reply", "conversation", "node", *unknown}
    others = {field.name for field in dataclasses.fields(TreeRow)} - named
    assert not any(np.any(getattr(row, name)) for name in others)
    assert row.sizes == (5, 4, 3, 2)


def test_stack_adds_a_batch_axis():
    batch = stack([empty_row(ROOM)] * 3)
    assert batch.tokens.shape == (3, ROOM.tokens)
    assert batch.pairs.shape == (3, ROOM.pairs, 2)


def test_too_much_for_a_row_is_an_error():
    tree = aloe_tree(turns=3)
    parts = fragments(tree, build_trie(tree, chat_format("chatml")), ROOM, 0)
    with pytest.raises(InputError, match="let best_fit choose"):
        pack(parts, dataclasses.replace(ROOM, replies=5))


@settings(max_examples=80, deadline=None)
@given(
    forest=st.lists(trees(max_turns=6), min_size=1, max_size=4),
    name=st.sampled_from(["chatml", "qwen3", "mistral_moving"]),
    slack=st.integers(0, 200),
    replies=st.integers(3, 12),
)
def test_packed_trees_show_each_reply_its_path_and_nothing_else(forest, name, slack, replies):
    """For every target, the keys that its source attends to are the path's tokens up to it, in order, at positions 0,
    1, 2, ...

    The capacity is so small that conversations split; each reply still is a target exactly once.
    """
    chat = chat_format(name)
    tries = [build_trie(tree, chat) for tree in forest]
    # Three siblings at most, each on a path of at most the longest one.
    longest = max((len(trie.path_ids(reply.piece)) for trie in tries for reply in trie.replies), default=1)
    capacity = Capacity(3 * longest + slack, 3 * longest + slack, replies, 3)
    parts = [part for index, tree in enumerate(forest) for part in fragments(tree, tries[index], capacity, index)]
    plan = best_fit(sizes_of(parts), capacity)
    found, pairs = [], []
    for members in plan:
        row = pack([parts[index] for index in members], capacity)
        assert row.sizes == dataclasses.astuple(capacity)
        found += check_row(row, tries, capacity)
        pairs += [
            (int(row.conversation[chosen]), int(row.node[chosen]), int(row.node[rejected]))
            for chosen, rejected in row.pairs[row.pair_weight > 0]
            if row.group[chosen] == row.group[rejected]
        ]
    assert sorted(found) == sorted((index, reply.node) for index, trie in enumerate(tries) for reply in trie.replies)
    assert sorted(pairs) == sorted(decided_pairs(forest, tries))


def check_row(row, tries, capacity):
    """Assert the structure of every reply in a packed row; returns (conversation, node) of these replies."""
    mask = allowed(row.positions, row.subtree_end)
    np.testing.assert_array_equal(mask[0], np.arange(capacity.tokens) == 0)
    found = []
    for reply in np.flatnonzero(row.conversation >= 0):
        trie = tries[row.conversation[reply]]
        span = next(span for span in trie.replies if span.node == row.node[reply])
        path, ids = trie.path_ids(span.piece), trie.pieces[span.piece].tokens
        targets = np.flatnonzero(row.reply == reply)
        assert row.target[targets].tolist() == list(ids)
        assert row.length[reply] == len(ids)
        assert len(set(row.weight[targets].tolist())) == 1
        for target, end in zip(targets, range(len(path) - len(ids), len(path)), strict=True):
            seen = np.flatnonzero(mask[row.source[target]])
            assert row.tokens[seen].tolist() == path[:end]
            assert row.positions[seen].tolist() == list(range(end))
        siblings = [other for other in np.flatnonzero(row.conversation >= 0) if row.group[other] == row.group[reply]]
        assert {row.conversation[other] for other in siblings} == {row.conversation[reply]}
        groups = {span.node: span.group for span in trie.replies}
        assert {groups[row.node[other]] for other in siblings} == {span.group}
        found.append((int(row.conversation[reply]), int(row.node[reply])))
    return found


def decided_pairs(forest, tries):
    """(conversation, chosen, rejected) of every preference with a margin between different tokens and no side flagged
    no_loss."""
    found = []
    for index, tree in enumerate(forest):
        position = {node.id: at for at, node in enumerate(tree.nodes)}
        ids = {span.node: tries[index].pieces[span.piece].tokens for span in tries[index].replies}
        for preference in tree.preferences:
            sides = (position[preference.chosen], position[preference.rejected])
            lost = any("no_loss" in tree.nodes[side].flags for side in sides)
            if preference.margin > 0 and not lost and ids[sides[0]] != ids[sides[1]]:
                found.append((index, *sides))
    return found
