"""`aloe convert --preview`: conversations as lines of text before they are written."""

import json

from aloe_jax.formats.outline import tree_lines
from helpers.tree_samples import aloe_tree, conversation


def test_siblings_stand_beside_each_other_and_the_larger_branch_goes_on_below():
    assert list(tree_lines(aloe_tree(2))) == [
        "conversation aloe: 6 messages, 4 replies, 2 pairs",
        "user user1: Question 1 about the old bridge?",
        "├ assistant good1 ✓: I like walk 1 along the river.",
        "└ assistant poor1 ✗: It is a bridge, number 1.",
        "after good1:",
        "user user2: Question 2 about the old bridge?",
        "├ assistant good2 ✓: I like walk 2 along the river.",
        "└ assistant poor2 ✗: It is a bridge, number 2.",
    ]


def test_a_smaller_branch_is_indented_and_texts_are_cut_and_harmless():
    tree = conversation(
        ("u", None, "user", "first\nline \x1b[31mred"),
        ("a", "u", "assistant", "x" * 200),
        ("b", "u", "assistant", "short"),
        ("v", "b", "user", "on"),
        ("c", "v", "assistant", "one"),
        ("w", "a", "user", "other"),
    )
    lines = list(tree_lines(tree))
    assert lines[1] == "user u: first line �[31mred"
    assert lines[2] == f"├ assistant a (trained on): {'x' * 90}… (200 characters)"
    assert lines[3] == "│ user w: other"
    assert lines[4:6] == ["└ assistant b (trained on): short", "after b:"]


def test_the_command_prints_before_it_writes_or_only_prints(aloe, tmp_path):
    source, out = tmp_path / "chats.jsonl", tmp_path / "trees.jsonl"
    chats = [[{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": f"yes {n}"}] for n in range(3)]
    source.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    code, said, _ = aloe("convert", source, "--preview=2")
    assert code == 0
    assert "hi 1" in said
    assert "hi 2" not in said
    assert "read 3 messages records, would write 3" in said
    assert not out.exists()
    code, said, _ = aloe("convert", source, f"--out={out}", "--preview=1")
    assert code == 0
    assert said.index("user") < said.index("read 3 messages records, wrote 3")
    assert out.exists()
    code, _, error = aloe("convert", source)
    assert code == 2
    assert "--out is missing" in error
