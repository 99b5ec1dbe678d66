"""The file that conversations of the page and of `aloe chat` are added to."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.trees_file import TreesFile, conversation
from aloe_jax.tree.schema import dump, read_trees
from helpers.tree_samples import aloe_tree


def test_conversations_are_appended_and_replaced_by_id(tmp_path):
    path = tmp_path / "new" / "trees.jsonl"
    kept = TreesFile(path)
    assert [kept.add(aloe_tree(turns, name=name)) for turns, name in ((1, "a"), (2, "b"), (3, "a"))] == [
        False,
        False,
        True,
    ]
    assert list(read_trees(path)) == [aloe_tree(3, name="a"), aloe_tree(2, name="b")]
    assert len(kept) == 2


def test_an_earlier_file_is_continued_and_its_torn_line_cut_off(tmp_path):
    path = tmp_path / "trees.jsonl"
    path.write_text(dump(aloe_tree(1, name="a")) + "\n" + dump(aloe_tree(1, name="b"))[:40])
    kept = TreesFile(path)
    assert len(kept) == 1
    assert kept.add(aloe_tree(2, name="a"))
    assert list(read_trees(path)) == [aloe_tree(2, name="a")]


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    with pytest.raises(InputError, match=r"notes\.txt line 1"):
        TreesFile(path)
    assert path.read_text() == "dear diary\n"


def test_a_file_that_vanished_is_begun_again(tmp_path):
    path = tmp_path / "trees.jsonl"
    kept = TreesFile(path)
    kept.add(aloe_tree(1, name="a"))
    path.unlink()
    assert not kept.add(aloe_tree(1, name="a"))
    assert len(list(read_trees(path))) == 1


def test_a_conversation_without_a_reply_teaches_nothing():
    text = '{"schema_version": 1, "id": "c", "nodes": [{"id": "u", "parent": null, "role": "user", "text": "hello"}]}'
    with pytest.raises(InputError, match="has no reply"):
        conversation(text)
