"""The prefix trie: pieces of every template, stored ids, rewritten history, left cuts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Node
from aloe_jax.tree.template import ChatFormat, ChatTemplate
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import SPECIAL, aloe_tree, chat_format, conversation, messages, tokenizer, trees

TOLERANT = ("chatml", "qwen2_5", "qwen3", "llama3", "olmo", "mistral_moving")  # take a system message as it is


def text_of(ids):
    return tokenizer().decode(ids, skip_special=False)


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("system", [None, "Be kind."])
def test_every_path_is_its_prompt_and_its_reply(name, system):
    folded = {} if system is None or name in TOLERANT else {"system": "fold_into_first_user"}
    chat = chat_format(name, **folded)
    tree = aloe_tree(turns=4, system=system)
    trie = build_trie(tree, chat)
    assert len(trie.replies) == 8
    for reply in trie.replies:
        path = messages(tree, tree.nodes[reply.node].id)
        prompt = chat.template.render(path[:-1], add_generation_prompt=True)
        ids = trie.path_ids(trie.pieces[reply.piece].parent)
        assert text_of(ids) == prompt
        assert ids == chat.prompt_ids(path[:-1])
        written = text_of(trie.pieces[reply.piece].tokens)
        assert chat.template.render(path, add_generation_prompt=False).startswith(prompt + written)
        assert path[-1].content in written
        assert trie.pieces[reply.piece].tokens[-1] in tokenizer().end_of_turn_ids


def test_turns_and_groups():
    trie = build_trie(aloe_tree(turns=3, system="Be kind."), chat_format("chatml"))
    assert [(reply.turn, reply.group) for reply in trie.replies] == [(1, 0), (1, 0), (2, 1), (2, 1), (3, 2), (3, 2)]


def test_a_ten_turn_tree_holds_every_token_once():
    tree = aloe_tree(turns=10)
    trie = build_trie(tree, chat_format("chatml"))
    on_path = {node.parent for node in tree.nodes}
    # The longest path holds all but the replies that nothing follows, which are one piece each.
    leaves = [reply for reply in trie.replies if tree.nodes[reply.node].id not in on_path]
    longest = len(trie.path_ids(trie.replies[-1].piece))
    rest = sum(len(trie.pieces[reply.piece].tokens) for reply in leaves if reply is not trie.replies[-1])
    assert trie.tree_tokens == longest + rest
    assert trie.path_tokens == sum(len(trie.path_ids(reply.piece)) for reply in trie.replies)
    assert trie.sharing == trie.path_tokens / trie.tree_tokens > 4


def test_history_rewritten_by_the_template_branches_by_itself():
    tree = aloe_tree(turns=2)
    trie = build_trie(tree, chat_format("qwen3"))
    first, _, second, _ = trie.replies
    generation_prompt = trie.pieces[first.piece].parent
    assert text_of(trie.pieces[first.piece].tokens).startswith("<think>\n\n</think>\n\nI like")
    in_history = trie.path(second.piece)[trie.path(second.piece).index(generation_prompt) + 1]
    assert in_history != first.piece
    assert text_of(trie.pieces[in_history].tokens) == "I like walk 1 along the river.<|im_end|>"
    assert in_history not in {reply.piece for reply in trie.replies}


def test_thinking_is_trained_on_and_dropped_from_history():
    thought = "<think>\nhm\n</think>\n\nYes."
    tree = conversation(
        ("u1", None, "user", "Tea?"),
        ("a1", "u1", "assistant", thought),
        ("u2", "a1", "user", "Sure?"),
        ("a2", "u2", "assistant", thought),
    )
    trie = build_trie(tree, chat_format("qwen3"))
    assert [text_of(trie.pieces[reply.piece].tokens) for reply in trie.replies] == [thought + "<|im_end|>"] * 2
    assert text_of(trie.path_ids(trie.replies[1].piece)).count("hm") == 1


def test_moving_system_prompt_branches_without_refusal():
    trie = build_trie(aloe_tree(turns=3, system="Be kind."), chat_format("mistral_moving"))
    for reply in trie.replies:
        assert text_of(trie.path_ids(reply.piece)).count("Be kind.") == 1


def test_render_that_does_not_start_with_its_prompt_is_an_error_with_remedy():
    with pytest.raises(
        InputError,
        match=r"conversation 'aloe' node 'good1': mistral_v0_3 template: the rendered turn 1 does not start with its "
        r"own prompt.*config\.template\.system=fold_into_first_user",
    ):
        build_trie(aloe_tree(turns=2, system="Be kind."), chat_format("mistral_v0_3"))


def test_refusal_names_conversation_and_node():
    with pytest.raises(InputError, match="conversation 'aloe' node 'good1': gemma template refuses turn 1"):
        build_trie(aloe_tree(turns=1, system="Be kind."), chat_format("gemma"))


def test_template_without_end_of_turn_is_an_error():
    chat = ChatFormat(tokenizer(), ChatTemplate("{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}"
                                                "{{ 'assistant:' if add_generation_prompt }}"))  # fmt: skip
    with pytest.raises(InputError, match="none of the end-of-turn tokens"):
        build_trie(aloe_tree(turns=1), chat)


def sampled(ids, **changes):
    fields = {"id": "a1", "parent": "u1", "role": "assistant", "text": "Yes.", "tokenizer": tokenizer().hash}
    return Node(**{**fields, "token_ids": ids, **changes})


def two_turns(reply):
    return conversation(
        ("u1", None, "user", "Tea?"), reply, ("u2", "a1", "user", "Sure?"), ("a2", "u2", "assistant", "Quite.")
    )


END = tokenizer().encode("<|im_end|>")[0]


def test_stored_ids_are_used_for_the_reply_and_in_history():
    trie = build_trie(two_turns(sampled((50, 60, 70, END))), chat_format("chatml"))
    assert trie.pieces[trie.replies[0].piece].tokens == (50, 60, 70, END)
    assert trie.replies[0].piece in trie.path(trie.replies[1].piece)


def test_ids_of_another_tokenizer_are_not_used():
    tree = two_turns(sampled((50, 60, 70, END), tokenizer="other"))
    assert build_trie(tree, chat_format("chatml")) == build_trie(two_turns(sampled(None)), chat_format("chatml"))


def test_stored_ids_do_not_stand_in_history_that_the_template_rewrote():
    trie = build_trie(two_turns(sampled((50, 60, 70, END))), chat_format("qwen3"))
    assert trie.pieces[trie.replies[0].piece].tokens == (50, 60, 70, END)
    assert "Yes.<|im_end|>" in text_of(trie.path_ids(trie.replies[1].piece))


@pytest.mark.parametrize("ids", [(50, 60), None])
def test_truncated_reply_has_no_end_of_turn_and_history_closes_it(ids):
    trie = build_trie(two_turns(sampled(ids, flags=("truncated",))), chat_format("chatml"))
    first, second = trie.replies
    expected = ids or tuple(tokenizer().encode("Yes."))
    assert trie.pieces[first.piece].tokens == expected
    path = trie.path(second.piece)
    closing = path[path.index(first.piece) + 1]
    assert trie.pieces[closing].tokens == (END,)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (sampled((50, 60)), "end with 60, which is not an end-of-turn token"),
        (sampled((50, 100_000, END)), "not all within the vocabulary"),
        (sampled(None, text="", flags=("truncated",)), "reply is empty"),
    ],
)
def test_broken_replies_are_named(reply, said):
    with pytest.raises(InputError, match=f"conversation 'c' node 'a1': .*{said}"):
        build_trie(two_turns(reply), chat_format("chatml"))


def test_equal_siblings_share_a_piece_and_stay_two_replies():
    tree = conversation(
        ("u", None, "user", "Tea?"), ("a", "u", "assistant", "Yes."), ("b", "u", "assistant", "Yes."),
        ("c", "u", "assistant", "No."),
    )  # fmt: skip
    first, second, third = build_trie(tree, chat_format("chatml")).replies
    assert first.piece == second.piece != third.piece
    assert (first.node, second.node) == (1, 2)


def test_conversation_without_replies_is_an_empty_trie():
    trie = build_trie(conversation(("u", None, "user", "Tea?")), chat_format("chatml"))
    assert (trie.pieces, trie.replies, trie.sharing) == ([], [], 1.0)


def test_no_token_is_added_to_what_the_template_writes():
    for name, opening in (("llama3", "<|begin_of_text|>"), ("gemma", "<bos>"), ("mistral_v0_3", "<s>")):
        trie = build_trie(aloe_tree(turns=3), chat_format(name))
        for reply in trie.replies:
            assert text_of(trie.path_ids(reply.piece)).count(opening) == 1


def test_left_cut_keeps_the_system_turn_and_whole_turns():
    tree, chat = aloe_tree(turns=6, system="Be kind."), chat_format("chatml")
    full = build_trie(tree, chat)
    limit = len(full.path_ids(full.replies[5].piece))  # three turns fit
    trie = build_trie(tree, chat, max_tokens=limit)
    lengths = [len(trie.path_ids(reply.piece)) for reply in trie.replies]
    assert max(lengths) <= limit
    last = text_of(trie.path_ids(trie.replies[-1].piece))
    assert last.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nQuestion 4")
    assert [reply.turn for reply in trie.replies] == [reply.turn for reply in full.replies]
    assert trie.turns_cut == 2 * (1 + 2 + 3)
    assert full.turns_cut == 0


def test_siblings_lose_the_same_turns():
    long = "The old bridge and the new cinema. " * 4
    tree = conversation(
        ("u1", None, "user", "One?"),
        ("a1", "u1", "assistant", "Two."),
        ("u2", "a1", "user", "Three?"),
        ("short", "u2", "assistant", "Four."),
        ("long", "u2", "assistant", long),
    )
    chat = chat_format("chatml")
    full = build_trie(tree, chat)
    limit = len(full.path_ids(full.replies[2].piece)) - 1
    trie = build_trie(tree, chat, max_tokens=limit)
    assert trie.pieces[trie.replies[1].piece].parent == trie.pieces[trie.replies[2].piece].parent
    assert "One?" not in text_of(trie.path_ids(trie.replies[1].piece))


def test_overlong_path_is_an_error_where_asked_for_or_nothing_can_be_cut():
    chat = chat_format("chatml")
    with pytest.raises(
        InputError, match=r"conversation 'aloe' node '\w+2': its path has \d+ tokens, more than the 100"
    ):
        build_trie(aloe_tree(turns=3), chat, max_tokens=100, overlong="error")
    with pytest.raises(InputError, match=r"node '\w+1'.*even with all earlier turns cut"):
        build_trie(aloe_tree(turns=1), chat, max_tokens=5)


@settings(max_examples=60, deadline=None)
@given(tree=trees(), name=st.sampled_from(TOLERANT), slack=st.one_of(st.none(), st.integers(0, 60)))
def test_random_trees_have_the_paths_their_renders_have(tree, name, slack):
    """Pieces concatenate to the prompt of the (cut) history and the reply, for any tree without stored ids.

    The limit leaves `slack` tokens beyond the longest single turn, so that one turn always fits.
    """
    bare = tree.model_copy(update={"nodes": tuple(node.model_copy(update={"token_ids": None}) for node in tree.nodes)})
    chat = chat_format(name)
    full = build_trie(bare, chat)

    def prompts(node):
        """Prompts of a reply with 0, 1, 2, ... turns cut."""
        history = messages(bare, node.id)[:-1]
        system = [message for message in history if message.role == "system"]
        body = history[len(system) :]
        starts = [at for at, message in enumerate(body) if message.role == "user"]
        return [chat.prompt_ids([*system, *body[at:]]) for at in starts]

    possible = {reply.node: prompts(bare.nodes[reply.node]) for reply in full.replies}
    longest = max(
        (len(possible[reply.node][-1]) + len(full.pieces[reply.piece].tokens) for reply in full.replies), default=0
    )
    limit = None if slack is None else longest + slack
    trie = full if limit is None else build_trie(bare, chat, max_tokens=limit)
    keys = [(piece.parent, piece.tokens) for piece in trie.pieces]
    assert len(set(keys)) == len(keys)
    assert all(piece.parent < index and piece.tokens for index, piece in enumerate(trie.pieces))
    for reply in trie.replies:
        ids = trie.path_ids(trie.pieces[reply.piece].parent)
        assert ids == possible[reply.node][0] if limit is None else ids in possible[reply.node]
        assert limit is None or len(ids) + len(trie.pieces[reply.piece].tokens) <= limit
    if limit is not None and trie.turns_cut == 0:
        assert trie == full
