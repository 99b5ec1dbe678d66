"""Rows: hand-computed layouts, labels and weights, the mask, and the split of a conversation that does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.row import COLUMNS, Capacity, TreeRow, allowed
from aloe_jax.tree.schema import Preference
from aloe_jax.tree.trie import Piece, ReplySpan, Trie, build_trie
from helpers.tree_samples import aloe_tree, chat_format, conversation

ROOM = Capacity(tokens=10_000, targets=5_000, replies=500, pairs=500)


def fork(**changes):
    """One user message with two replies, the first preferred."""
    tree = conversation(
        ("u", None, "user", "Tea?"), ("a", "u", "assistant", "Yes."), ("b", "u", "assistant", "No."),
        preferences=(("a", "b"),),
    )  # fmt: skip
    return tree.model_copy(update=changes)


# Prompt 10 11 12, replies 20 21 and 30 31 32, a further turn under the second.
TRIE = Trie(
    pieces=[Piece(-1, (10, 11, 12)), Piece(0, (20, 21)), Piece(0, (30, 31, 32)), Piece(2, (40,))],
    replies=[ReplySpan(1, 1, 1, 0), ReplySpan(2, 2, 1, 0), ReplySpan(3, 3, 2, 1)],
    path_tokens=18,
    turns_cut=0,
)
HAND = conversation(
    ("u", None, "user", ""), ("a", "u", "assistant", ""), ("b", "u", "assistant", ""), ("c", "b", "assistant", ""),
    preferences=(("b", "a"),),
)  # fmt: skip


def test_layout_by_hand():
    (row,) = fragments(HAND, TRIE, ROOM, conversation_index=7)
    expected = {
        "tokens": [10, 11, 12, 20, 21, 30, 31, 32, 40],
        "positions": [0, 1, 2, 3, 4, 3, 4, 5, 6],
        "subtree_end": [9, 9, 9, 5, 5, 9, 9, 9, 9],
        "source": [2, 3, 2, 5, 6, 7],
        "target": [20, 21, 30, 31, 32, 40],
        "reply": [0, 0, 1, 1, 1, 2],
        "weight": [0, 0, 1, 1, 1, 0],
        "old_log_prob": [0] * 6,
        "reference_log_prob": [0] * 6,
        "hinted_log_prob": [np.nan] * 6,
        "conversation": [7, 7, 7],
        "node": [1, 2, 3],
        "length": [2, 3, 1],
        "turn": [1, 1, 2],
        "group": [0, 0, 1],
        "label": [-1, 1, 0],
        "value": [np.nan, np.nan, np.nan],
        "advantage": [np.nan, np.nan, np.nan],
        "reference": [0, 0, 0],
        "pairs": [[1, 0]],
        "pair_weight": [1],
        "pair_margin": [1],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(row, name), values, err_msg=name)
    assert row.sizes == (9, 6, 3, 1)


def test_the_table_of_columns_lists_the_fields_of_a_row():
    """In their order, along the axis and in the type that the annotation names."""
    axes = {"tokens": "T", "targets": "M", "replies": "R", "pairs": "P"}
    types = {np.int32: "Int32", np.float32: "Float32"}
    described = {
        name: f'{types[column.dtype]}[Array, "*B {" ".join([axes[column.axis], *map(str, column.inner)])}"]'
        for name, column in COLUMNS.items()
    }
    assert described == {field.name: field.type.replace("'", '"') for field in dataclasses.fields(TreeRow)}
    assert list(described) == [field.name for field in dataclasses.fields(TreeRow)]


def test_types():
    (row,) = fragments(HAND, TRIE, ROOM, 0)
    floats = {"weight", "label", "value", "advantage", "reference", "pair_weight", "pair_margin"}
    floats |= {"old_log_prob", "reference_log_prob", "hinted_log_prob"}
    for field in dataclasses.fields(TreeRow):
        assert getattr(row, field.name).dtype == (np.float32 if field.name in floats else np.int32)


def test_mask_by_hand_with_and_without_window():
    (row,) = fragments(HAND, TRIE, ROOM, 0)
    mask = allowed(row.positions, row.subtree_end)
    assert [np.flatnonzero(query).tolist() for query in mask] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4],
        [0, 1, 2, 5], [0, 1, 2, 5, 6], [0, 1, 2, 5, 6, 7], [0, 1, 2, 5, 6, 7, 8],
    ]  # fmt: skip
    windowed = allowed(row.positions, row.subtree_end, window=3)
    assert np.flatnonzero(windowed[8]).tolist() == [6, 7, 8]  # distances 2, 1, 0
    assert np.flatnonzero(windowed[5]).tolist() == [1, 2, 5]


def test_mask_works_on_batches_and_inside_jit():
    (row,) = fragments(HAND, TRIE, ROOM, 0)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), row)
    mask = jax.jit(lambda row: allowed(row.positions, row.subtree_end, 3))(batch)
    np.testing.assert_array_equal(mask[1], allowed(row.positions, row.subtree_end, 3))


def weights_of(tree, weights=None):
    (row,) = fragments(tree, build_trie(tree, chat_format("chatml")), ROOM, 0, weights)
    starts = np.cumsum([0, *row.length[:-1]])
    return row.weight[starts].tolist(), row.label.tolist(), row.pairs.tolist()


def test_every_reply_is_trained_on_where_there_are_no_preferences():
    assert weights_of(fork(preferences=())) == ([1, 1], [0, 0], [])


def test_chosen_reply_is_trained_on_where_there_are_preferences():
    assert weights_of(fork()) == ([1, 0], [1, -1], [[0, 1]])


def test_undecided_preference_is_no_pair():
    undecided = (Preference(chosen="a", rejected="b", margin=0.0),)
    assert weights_of(fork(preferences=undecided)) == ([0, 0], [0, 0], [])


def test_negative_margin_prefers_the_other_reply():
    """A margin of -0.5 for a over b is one of 0.5 for b over a."""
    reversed_ = (Preference(chosen="a", rejected="b", margin=-0.5),)
    assert reversed_ == (Preference(chosen="b", rejected="a", margin=0.5),)
    assert weights_of(fork(preferences=reversed_)) == ([0, 1], [-1, 1], [[1, 0]])
    (row,) = fragments(fork(preferences=reversed_), build_trie(fork(), chat_format("chatml")), ROOM, 0)
    assert row.pair_margin.tolist() == [0.5]


def test_two_judges_make_one_pair_with_their_mean_margin():
    twice = tuple(Preference(chosen="a", rejected="b", margin=margin, judge=str(margin)) for margin in (0.25, 0.75))
    assert weights_of(fork(preferences=twice)) == ([1, 0], [1, -1], [[0, 1]])
    (row,) = fragments(fork(preferences=twice), build_trie(fork(), chat_format("chatml")), ROOM, 0)
    assert row.pair_margin.tolist() == [0.5]


def test_reply_in_the_middle_is_neither_chosen_nor_rejected():
    tree = conversation(
        ("u", None, "user", "Tea?"), ("a", "u", "assistant", "A"), ("b", "u", "assistant", "B"),
        ("c", "u", "assistant", "C"), preferences=(("a", "b"), ("b", "c")),
    )  # fmt: skip
    assert weights_of(tree) == ([1, 0, 0], [1, 0, -1], [[0, 1], [1, 2]])


def test_given_weights_replace_the_default():
    assert weights_of(fork(), {"b": 0.5}) == ([0, 0.5], [1, -1], [[0, 1]])
    with pytest.raises(InputError, match="conversation 'c': weights name unknown node 'z'"):
        weights_of(fork(), {"z": 1.0})


def test_no_loss_switches_weight_label_and_pair_off():
    nodes = fork().nodes
    muted = fork(nodes=(*nodes[:2], nodes[2].model_copy(update={"flags": ("no_loss",)})))
    assert weights_of(muted) == ([1, 0], [1, 0], [])
    assert weights_of(muted, {"b": 1.0})[0] == [0, 0]


def test_values_are_handed_on():
    nodes = fork().nodes
    tree = fork(nodes=(*nodes[:2], nodes[2].model_copy(update={"value": 3.5})))
    (row,) = fragments(tree, build_trie(tree, chat_format("chatml")), ROOM, 0)
    np.testing.assert_array_equal(row.value, [np.nan, 3.5])
    muted = tree.model_copy(update={"nodes": (*nodes[:2], tree.nodes[2].model_copy(update={"flags": ("no_loss",)}))})
    (row,) = fragments(muted, build_trie(muted, chat_format("chatml")), ROOM, 0)
    np.testing.assert_array_equal(row.value, [np.nan, np.nan])


def test_full_row_repeats_the_trunk_without_targets():
    tree = aloe_tree(turns=6)
    trie = build_trie(tree, chat_format("chatml"))
    (whole,) = fragments(tree, trie, ROOM, 0)
    longest = max(len(trie.path_ids(reply.piece)) for reply in trie.replies)
    parts = fragments(tree, trie, dataclasses.replace(ROOM, tokens=longest + 20), 0)
    assert len(parts) > 1
    assert np.concatenate([part.node for part in parts]).tolist() == whole.node.tolist()
    assert sum(part.sizes[1] for part in parts) == whole.sizes[1]
    assert sum(part.sizes[3] for part in parts) == whole.sizes[3] == 6
    assert all(part.tokens[0] == whole.tokens[0] for part in parts)


def test_a_conversation_that_fills_a_row_exactly_is_one_fragment():
    tree = aloe_tree(turns=6)
    trie = build_trie(tree, chat_format("chatml"))
    (whole,) = fragments(tree, trie, ROOM, 0)
    assert whole.sizes[0] == trie.tree_tokens
    assert len(fragments(tree, trie, Capacity(*whole.sizes), 0)) == 1


@pytest.mark.parametrize(("field", "room"), [("targets", 60), ("replies", 4), ("pairs", 2)])
def test_every_capacity_splits(field, room):
    tree = aloe_tree(turns=6)
    trie = build_trie(tree, chat_format("chatml"))
    parts = fragments(tree, trie, dataclasses.replace(ROOM, **{field: room}), 0)
    at = [field.name for field in dataclasses.fields(Capacity)].index(field)
    assert len(parts) > 1
    assert all(part.sizes[at] <= room for part in parts)
    assert sum(part.sizes[3] for part in parts) == 6


def test_siblings_that_do_not_fit_together_split_between_pairs():
    names = "abcdef"
    nodes = [("u", None, "user", "Tea?"), *((name, "u", "assistant", name * 9) for name in names)]
    tree = conversation(*nodes, preferences=(("a", "d"), ("b", "e"), ("e", "c")))
    trie = build_trie(tree, chat_format("chatml"))
    parts = fragments(tree, trie, dataclasses.replace(ROOM, replies=3), 0)
    assert [part.node.tolist() for part in parts] == [[1, 4], [2, 3, 5], [6]]
    assert [part.pairs.tolist() for part in parts] == [[[0, 1]], [[0, 2], [2, 1]], []]


def test_compared_replies_that_do_not_fit_are_an_error_with_the_need():
    trie = build_trie(fork(), chat_format("chatml"))
    (row,) = fragments(fork(), trie, ROOM, 0)
    need, room = row.sizes[0], row.sizes[0] - 1
    with pytest.raises(InputError, match=rf"conversation 'c' node 'a' .*needs {need} tokens where a row has {room}"):
        fragments(fork(), trie, dataclasses.replace(ROOM, tokens=room), 0)


def test_conversation_without_replies_has_no_fragment():
    tree = conversation(("u", None, "user", "Tea?"))
    assert fragments(tree, build_trie(tree, chat_format("chatml")), ROOM, 0) == []


def test_capacity_without_room_is_an_error():
    with pytest.raises(InputError, match=r"capacity\.replies is 0"):
        Capacity(10, 10, 0, 0)
