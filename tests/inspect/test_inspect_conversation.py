"""A conversation's view against the rendered text, the trie and the row that training gets."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from aloe_jax.inspect.conversation import UNLIMITED, view_conversation
from aloe_jax.inspect.layout import Fork, layout, runs
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.schema import Node
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import SPECIAL, aloe_tree, chat_format, conversation, messages, tokenizer, trees


def path(view, reply):
    """The pieces from the root to the piece of a reply."""
    by_index = {piece.index: piece for piece in view.pieces}
    found = [next(piece for piece in view.pieces if reply in piece.replies)]
    while found[-1].parent >= 0:
        found.append(by_index[found[-1].parent])
    return found[::-1]


def reply(view, node):
    return next(reply for reply in view.replies if reply.node == node)


@pytest.mark.parametrize("name", SPECIAL)
def test_the_tokens_of_a_path_are_the_rendered_text_with_positions_in_a_row(name):
    chat, system = chat_format(name), None if name in ("gemma", "mistral_v0_3") else "Be kind to the fox 🦊."
    tree = aloe_tree(3, system)
    view = view_conversation(tree, chat)
    for node in tree.replies():
        tokens = [token for piece in path(view, node.id) for token in piece.tokens]
        rendered = chat.template.render(messages(tree, node.id), add_generation_prompt=False)
        text = "".join(token.text for token in tokens)
        assert text == rendered[: len(text)]
        assert rendered[len(text) :].strip() == ""
        assert [token.position for token in tokens] == list(range(len(tokens)))
        assert reply(view, node.id).path_tokens == len(tokens)


def test_what_is_trained_on_is_what_the_row_says():
    """Of four turns the preferred reply has weight 1; good1 has as many tokens as its text and the end of turn."""
    chat, tree = chat_format("chatml"), aloe_tree(4)
    view = view_conversation(tree, chat)
    good = tokenizer().encode("I like walk 1 along the river.<|im_end|>")
    assert reply(view, "good1").tokens == len(good)
    assert [token.id for token in path(view, "good1")[-1].tokens] == good
    assert [(item.verdict, item.weight, item.turn) for item in view.replies[:3]] == [
        ("chosen", 1.0, 1),
        ("rejected", 0.0, 1),
        ("chosen", 1.0, 2),
    ]
    weights = [token.weight for piece in view.pieces for token in piece.tokens]
    (row,) = fragments(tree, build_trie(tree, chat), UNLIMITED, 0)
    assert sum(weight is not None for weight in weights) == row.target.size
    assert sum(weight or 0 for weight in weights) == row.weight.sum() == view.trained_tokens
    assert [token.position for piece in view.pieces for token in piece.tokens] == row.positions.tolist()
    assert dataclasses.astuple(view.pairs[0]) == ("good1", "poor1", 1.0)
    assert view.sharing == pytest.approx(view.path_tokens / len(weights))


@given(trees(max_turns=5))
@settings(max_examples=25, deadline=None)
def test_every_tree_has_a_view_that_shows_each_piece_once(tree):
    chat = chat_format("chatml")
    trie = build_trie(tree, chat)
    view = view_conversation(tree, chat)
    assert sum(len(piece.tokens) for piece in view.pieces) == trie.tree_tokens
    assert sorted(node for piece in view.pieces for node in piece.replies) == sorted(node.id for node in tree.replies())
    assert sorted(piece.index for piece in flat(layout(view))) == sorted(range(len(trie.pieces)))


def flat(chain):
    """The pieces of a layout, with those of its forks."""
    for item in chain:
        yield from itertools.chain.from_iterable(map(flat, item.branches)) if isinstance(item, Fork) else (item,)


def test_history_that_a_template_rewrites_is_a_branch_without_weight():
    tree = aloe_tree(2)
    view = view_conversation(tree, chat_format("qwen3"))
    (branch,) = [piece for piece in view.pieces if piece.rewrites]
    assert branch.rewrites == ("good1",)
    assert branch.text == "I like walk 1 along the river.<|im_end|>"
    assert {token.weight for token in branch.tokens} == {None}
    assert path(view, "good1")[-1].text == "<think>\n\n</think>\n\nI like walk 1 along the river.<|im_end|>"
    assert branch.parent == path(view, "good1")[-2].index
    assert not any(piece.rewrites for piece in view_conversation(tree, chat_format("chatml")).pieces)


def test_a_system_message_that_moves_rewrites_from_the_root():
    view = view_conversation(aloe_tree(2, "Be kind."), chat_format("mistral_moving"))
    (branch,) = [piece for piece in view.pieces if piece.rewrites]
    assert (branch.parent, branch.rewrites) == (-1, ("good1",))


def test_cuts_are_named_where_the_path_leaves_the_whole_one():
    """Turn 4's path is longer than turn 3's by one turn, so at the length of turn 3's it loses its first turn."""
    chat, tree = chat_format("chatml"), aloe_tree(4, "Be kind.")
    whole = view_conversation(tree, chat)
    longest = max(item.path_tokens for item in whole.replies if item.turn == 3)
    view = view_conversation(tree, chat, longest)
    assert [item.turns_cut for item in view.replies] == [0, 0, 0, 0, 0, 0, 1, 1]
    (branch,) = [piece for piece in view.pieces if piece.turns_cut]
    assert branch.turns_cut == 1
    assert view.turns_cut == 2
    assert max(item.path_tokens for item in view.replies) <= longest
    assert not any(piece.rewrites for piece in view.pieces)
    assert not any(piece.turns_cut for piece in whole.pieces)


def test_where_the_ids_of_a_reply_come_from():
    ids, known = (300, 301, 2), tokenizer().hash
    rows = [
        Node(id="u", parent=None, role="user", text="Hello?"),
        Node(id="own", parent="u", role="assistant", text="x", token_ids=ids, tokenizer=known),
        Node(id="other", parent="u", role="assistant", text="y", token_ids=(5, 2), tokenizer="other"),
        Node(id="muted", parent="u", role="assistant", text="z", flags=("no_loss",)),
        Node(id="same", parent="u", role="assistant", text="y"),
    ]
    view = view_conversation(conversation(*rows), chat_format("chatml"))
    assert [item.ids for item in view.replies] == ["stored", "other tokenizer", "text", "text"]
    assert tuple(token.id for token in path(view, "own")[-1].tokens) == ids
    assert [item.weight for item in view.replies] == [1, 1, 0, 1]
    assert path(view, "same")[-1].replies == ("other", "same")  # equal siblings are one piece
    assert reply(view, "muted").flags == ("no_loss",)


def test_a_conversation_without_replies_and_one_that_is_too_large():
    chat = chat_format("chatml")
    assert view_conversation(conversation(("u", None, "user", "Hello?")), chat).pieces == ()
    long = conversation(("u", None, "user", "Hello?"), ("a", "u", "assistant", "é" * 9000))
    view = view_conversation(long, chat)
    assert view.rows == 0
    assert "config.dataset.row" in view.too_large
    assert view_conversation(aloe_tree(2), chat).rows == 1


def test_a_layout_puts_siblings_side_by_side_and_goes_on_behind_them():
    view = view_conversation(aloe_tree(30), chat_format("chatml"))
    chain = layout(view)
    forks = [item for item in chain if isinstance(item, Fork)]
    assert len(forks) == 30  # none inside another
    assert all(len(fork.branches) == 2 and fork.title == "fork: 2 sibling replies" for fork in forks)
    assert [fork.continues for fork in forks[:2]] == ["reply good1", "reply poor2"]
    assert forks[-1].continues == ""
    run = next(iter(runs(chain)))
    assert "".join(piece.text for piece in run).endswith("<|im_start|>assistant\n")
    first = layout(view, turns=2)
    assert sum(isinstance(item, Fork) for item in first) == 2
    assert all(node[-1] in "12" for piece in flat(first) for node in piece.replies)


def test_every_field_can_be_written_as_json():
    view = dataclasses.asdict(view_conversation(aloe_tree(2), chat_format("chatml")))
    plain = (str, int, float, bool, type(None))

    def check(value):
        if isinstance(value, dict | list | tuple):
            for inner in value.values() if isinstance(value, dict) else value:
                check(inner)
        else:
            assert isinstance(value, plain)
            assert not isinstance(value, np.generic)

    check(view)
