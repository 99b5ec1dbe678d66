"""Conversations whose user's turns are trained on: roles by hand, what is left out, and the weights of a row."""

import json

from aloe_jax.formats.convert import convert
from aloe_jax.formats.swapped import OPENING, swapped
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import Conversation, Node, Preference, read_trees
from aloe_jax.tree.trie import build_trie
from data_gen.players.settings import UserSettings
from data_gen.players.table import prompt_of
from helpers import tiny
from helpers.aloe_in_process import refused

CHAT = {
    "messages": [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "What floats?"},
        {"role": "assistant", "content": "Wood."},
        {"role": "user", "content": "And what else?"},
        {"role": "assistant", "content": "Ducks."},
    ]
}


def node(id, parent, role, **more):
    return Node(id=id, parent=parent, role=role, text=f"{role} {id}", **more)


def outline(tree):
    return [(each.id, each.parent, each.role) for each in tree.nodes]


def test_a_chat_is_swapped_message_by_message(aloe, tmp_path):
    source, out = tmp_path / "chats.jsonl", tmp_path / "users.jsonl"
    source.write_text(json.dumps(CHAT) + "\n" + json.dumps({"messages": CHAT["messages"][1:4]}) + "\n")
    code, said, _ = aloe("convert", source, f"--out={out}", "--train=user")
    assert code == 0
    assert "roles are swapped: the user's turns are the replies that are trained on" in said
    first, second = read_trees(out)
    assert [(each.role, each.text) for each in first.nodes] == [
        ("user", OPENING),
        ("assistant", "What floats?"),
        ("user", "Wood."),
        ("assistant", "And what else?"),
    ]
    assert [each.text for each in second.nodes] == [
        each.text for each in first.nodes
    ]  # its last message was the user's
    assert prompt_of("user", UserSettings(player="model", prompt="dialogue")).render("opening") == OPENING
    out = tmp_path.parent / "out"
    refused(aloe("convert", tmp_path, f"--out={out}", "--train=user"), "--preview and --train=user are about files")


def test_a_tree_keeps_what_a_user_answers():
    """A greeting takes the place of the opening; the reply a1.2 leads nowhere, and the probe is no turn."""
    tree = Conversation(
        id="t",
        nodes=(
            node("s", None, "system"),
            node("a0", "s", "assistant"),
            node("u1", "a0", "user"),
            node("a1.1", "u1", "assistant", label=True),
            node("a1.2", "u1", "assistant"),
            node("a1.1/probe", "a1.1", "user", flags=("probe",)),
            node("a1.1/belief", "a1.1/probe", "assistant", flags=("probe",)),
            node("u2", "a1.1", "user", flags=("no_loss", "thought")),
        ),
        preferences=(Preference(chosen="a1.1", rejected="a1.2"),),
        path=("s", "a0", "u1", "a1.1", "u2"),
    )
    found = swapped(tree)
    assert outline(found) == [
        ("a0", None, "user"),
        ("u1", "a0", "assistant"),
        ("a1.1", "u1", "user"),
        ("u2", "a1.1", "assistant"),
    ]
    assert found.node("u2").flags == ("no_loss",)
    assert swapped(Conversation(id="x", nodes=(node("a", None, "assistant"),))) is None


def test_an_opening_of_its_own_name():
    tree = Conversation(id="t", nodes=(node("opening", None, "user"), node("other", None, "user")))
    assert outline(swapped(tree)) == [
        ("opening0", None, "user"),
        ("opening", "opening0", "assistant"),
        ("other", "opening0", "assistant"),
    ]


def test_only_the_users_tokens_weigh(tmp_path):
    """The trained targets spell the two messages of the user, and nothing of the replies."""
    source, out = tmp_path / "chats.jsonl", tmp_path / "users.jsonl"
    source.write_text(json.dumps(CHAT))
    convert(source, out, train="user")
    [tree] = read_trees(out)
    [row] = fragments(tree, build_trie(tree, tiny.CHAT), Capacity(), 0)
    trained = [int(token) for token, weight in zip(row.target, row.weight, strict=True) if weight]
    text = tiny.CHAT.tokenizer.decode(trained)
    assert "What floats?" in text
    assert "And what else?" in text
    assert "Wood" not in text
    assert "Hello" not in text
