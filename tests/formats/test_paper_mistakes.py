"""Mistakes of the paper's code that the tree core must not repeat (paper, section 5, numbers 2, 3, 4, 9)."""

import json

import numpy as np
import pytest

from aloe_jax.formats.convert import convert
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import pack
from aloe_jax.tree.row import Capacity, allowed
from aloe_jax.tree.schema import read_trees
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import aloe_tree, chat_format, conversation, tokenizer

ROOM = Capacity(tokens=4_000, targets=2_000, replies=100, pairs=100)


def text_of(ids):
    return tokenizer().decode(ids, skip_special=False)


def test_2_history_follows_the_continued_branch_and_has_every_user_message():
    """The paper's code repeats the first user message in every turn, always after the preferred reply, even where the
    other one was chosen."""
    tree = aloe_tree(turns=3)
    trie = build_trie(tree, chat_format("chatml"))
    last = text_of(trie.path_ids(trie.replies[-1].piece))
    assert [last.count(f"Question {turn} about") for turn in (1, 2, 3)] == [1, 1, 1]
    assert "I like walk 1" in last  # turn 1 continued from the preferred reply
    assert "It is a bridge, number 2." in last  # turn 2 from the other one
    assert "I like walk 2" not in last


@pytest.mark.parametrize(
    ("name", "opening"), [("llama3", "<|begin_of_text|>"), ("gemma", "<bos>"), ("mistral_v0_3", "<s>")]
)
def test_3_only_replies_are_targets_and_nothing_doubles_the_begin_token(name, opening):
    tree = aloe_tree(turns=4)
    trie = build_trie(tree, chat_format(name))
    (row,) = fragments(tree, trie, ROOM, 0)
    trained = text_of(row.target)
    assert "Question" not in trained
    assert opening not in trained
    assert row.sizes[1] == sum(len(trie.pieces[reply.piece].tokens) for reply in trie.replies)
    assert text_of(row.tokens).count(opening) == 1
    assert text_of(row.tokens).startswith(opening)


def test_3_packed_conversations_do_not_see_each_other():
    chat = chat_format("chatml")
    forest = [aloe_tree(turns=2, name="one"), aloe_tree(turns=3, name="two")]
    parts = [fragments(tree, build_trie(tree, chat), ROOM, index)[0] for index, tree in enumerate(forest)]
    row = pack(parts, ROOM)
    border, end = parts[0].sizes[0], parts[0].sizes[0] + parts[1].sizes[0]
    mask = allowed(row.positions, row.subtree_end)
    assert not mask[border:end, :border].any()
    assert not mask[:border, border:end].any()
    assert row.positions[border] == 0
    np.testing.assert_array_equal(mask[border:end, border:end], allowed(parts[1].positions, parts[1].subtree_end))


def test_4_long_conversations_keep_their_whole_history():
    """A library default of 512 tokens cut the history from turn 6 on, silently."""
    long = "The old bridge and the new cinema along the river. " * 4
    nodes = [("u1", None, "user", "First of all: hello.")]
    for turn in range(1, 11):
        nodes.append((f"a{turn}", f"u{turn}", "assistant", long))
        nodes.append((f"u{turn + 1}", f"a{turn}", "user", f"Go on {turn}."))
    tree = conversation(*nodes)
    trie = build_trie(tree, chat_format("chatml"))
    path = trie.path_ids(trie.replies[-1].piece)
    assert len(path) > 3 * 512 / 2
    assert "First of all: hello." in text_of(path)
    assert trie.turns_cut == 0


def test_4_what_is_cut_is_counted():
    tree, chat = aloe_tree(turns=10), chat_format("chatml")
    trie = build_trie(tree, chat, max_tokens=200)
    assert trie.turns_cut > 0
    assert all(len(trie.path_ids(reply.piece)) <= 200 for reply in trie.replies)


def test_9_texts_are_decoded_not_copied_as_raw_json_lines(tmp_path):
    said = 'He "hums", she said.\nBrö 🌊'
    turn = {"user": said, "assistant": {"preferred": "Ho", "rejected": "Ha"}, "chosen": "preferred"}
    record = {
        "profile": json.dumps("He hums.") + "\n",
        "personality": json.dumps("She jokes."),
        "conversations": [turn],
    }
    (tmp_path / "conversations.jsonl").write_text(json.dumps(record) + json.dumps(record))
    convert(tmp_path / "conversations.jsonl", tmp_path / "trees.jsonl")
    first, second = read_trees(tmp_path / "trees.jsonl")
    assert first.nodes == second.nodes
    assert first.nodes[0].text == said
    assert first.persona is not None
    assert [item.text for item in (*first.persona.facts, *first.persona.traits)] == ["He hums.", "She jokes."]
    prompt = build_trie(first, chat_format("chatml"))
    assert said in text_of(prompt.path_ids(prompt.replies[0].piece))
