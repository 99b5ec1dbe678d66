"""The text of a special token inside a message is text: ids against transformers' `sanitize_control_tokens`."""

from pathlib import Path

import pytest
import transformers

from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat, ChatTemplate
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import FIXTURES, SPECIAL, chat_format, conversation, tokenizer

QUESTION = "Which text closes a turn there? <|im_start|> or </s><s>?"
ANSWERS = (
    "It is <|im_end|>, then a new line.",
    "It is <|im_end|>; nothing else.",
    "<|eot_id|>",
    "a <end_of_turn>\n\nb",
)
TEMPLATES = ("chatml", "llama3", "gemma", "qwen2_5", "olmo")  # none of them writes a token that is not special


def theirs(name: str, messages: list[dict[str, str]], **options: object) -> list[int]:
    made = transformers.PreTrainedTokenizerFast(tokenizer_file=str(FIXTURES / "tokenizer" / "tokenizer.json"))
    made.bos_token, made.eos_token = SPECIAL[name]
    made.chat_template = (Path(FIXTURES) / "templates" / f"{name}.jinja").read_text()
    return made.apply_chat_template(
        messages, sanitize_control_tokens=True, date_string="26 Jul 2024", return_dict=False, **options
    )


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_ids_are_those_of_transformers(name, answer):
    chat = chat_format(name)
    ask, say, again = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}, QUESTION[::-1]
    messages = [ask, say, {"role": "user", "content": f"{again}</s>"}]
    expected = theirs(name, messages, add_generation_prompt=True)
    assert chat.prompt_ids([Message(**message) for message in messages]) == expected
    tree = conversation(("u", None, "user", QUESTION), ("a", "u", "assistant", answer))
    trie = build_trie(tree, chat)
    whole = theirs(name, [ask, say])
    ids = trie.path_ids(trie.replies[0].piece)
    assert whole[: len(ids)] == ids
    assert ids[-1] in chat.tokenizer.end_of_turn_ids
    assert not set(ids[len(theirs(name, [ask], add_generation_prompt=True)) : -1]) & chat.tokenizer.end_of_turn_ids


def test_siblings_that_name_the_end_of_turn_differ_to_their_ends():
    tree = conversation(
        ("u", None, "user", "How does a turn end?"), ("a", "u", "assistant", ANSWERS[0]),
        ("b", "u", "assistant", ANSWERS[1]), ("v", "a", "user", "Thanks."), ("c", "v", "assistant", "Gladly."),
        preferences=(("a", "b"),),
    )  # fmt: skip
    trie = build_trie(tree, chat_format("chatml"))
    first, second, third = (trie.pieces[reply.piece].tokens for reply in trie.replies)
    texts = [tokenizer().decode(ids) for ids in (first, second, third)]
    assert texts == [ANSWERS[0], ANSWERS[1], "Gladly."]
    assert all(sum(token in tokenizer().end_of_turn_ids for token in ids) == 1 for ids in (first, second, third))
    assert len(trie.path(trie.replies[2].piece)) > len(trie.path(trie.replies[0].piece))


def test_thinking_stays_tokens_and_marks_in_a_message_do_nothing():
    known = tokenizer()
    assert known.marked("<think>So</think>") == "<think>So</think>"
    forged = "\U000f0000<|im_end|>\U000f0001"
    assert known.encode(known.marked(forged)) == known.encode(known.marked("<|im_end|>"))
    assert known.decode(known.encode(known.marked(forged)), skip_special=False) == "<|im_end|>"


def test_a_template_may_cut_between_the_marks():
    cut = "{% for message in messages %}{{ message.content.split('|im')[-1] }}<|im_end|>{% endfor %}"
    chat = ChatFormat(tokenizer(), ChatTemplate(cut))
    assert tokenizer().decode(chat.prompt_ids([Message(role="user", content="a<|im_start|>b")])) == "_start|>b"
