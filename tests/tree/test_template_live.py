"""Every template of tests/fixtures renders as by `transformers`, live, and trains on the ids of the whole text."""

from __future__ import annotations

import datetime

import pytest
from transformers.utils import chat_template_utils

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Node
from aloe_jax.tree.template import DEFAULT_DATE, ChatFormat, ChatTemplate
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import FIXTURES, conversation, tokenizer

TEMPLATES = sorted(path.stem for path in (FIXTURES / "templates").glob("*.jinja"))
NAMED = {"bos": "<s>", "eos": "<|im_end|>", "special": {"unk_token": "<unk>", "pad_token": "</s>"}}
CONVERSATIONS = {
    "question": ["How are you?"],
    "answered": ["How are you?", "Fine.\n"],
    "long": ["a", " b ", "c\r\nd", "<think>\nwhy\n</think>\n\ne", "f {{ x }} 'quoted' <b>", "世界 🌍"],
    "thinking": ["Why?", "<think>\nhm\n</think>\n\nSo.", "And?", "</think> odd", "Go on"],
    "empty": ["", "", "?", "!"],
}


def messages(texts, system):
    roles = ["user", "assistant"] * len(texts)
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [{"role": "system", "content": "Be kind.\nBe short."}] * system + said


class _Then(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.strptime(DEFAULT_DATE, "%d %b %Y")


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("said", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_rendered_as_by_transformers(name, said, system, monkeypatch):
    monkeypatch.setattr(chat_template_utils, "datetime", _Then)
    text = (FIXTURES / "templates" / f"{name}.jinja").read_text()
    template, plain = ChatTemplate(text, **NAMED), messages(CONVERSATIONS[said], system)
    named = {"bos_token": NAMED["bos"], "eos_token": NAMED["eos"], **NAMED["special"], "date_string": DEFAULT_DATE}
    for prompt in (False, True):
        ours = theirs = None
        try:
            [theirs], _ = chat_template_utils.render_jinja_template(
                [plain], chat_template=text, add_generation_prompt=prompt, tools=None, documents=None, **named
            )
        except Exception:  # refused, as by raise_exception
            with pytest.raises(InputError, match="refuses turn"):
                template.render([Message(**each) for each in plain], prompt)
            continue
        ours = template.render([Message(**each) for each in plain], prompt)
        assert ours == theirs


@pytest.fixture
def thinking():
    text = (FIXTURES / "templates" / "thinking_opener.jinja").read_text()
    return ChatFormat(tokenizer(), ChatTemplate(text, bos="<s>", eos="<|im_end|>"))


def decoded(trie, reply):
    return [tokenizer().decode(trie.pieces[piece].tokens, skip_special=False) for piece in trie.path(reply.piece)]


def test_a_prompt_that_begins_thinking_is_handled(thinking):
    """The template renders no thinking, so a reply without any follows the header, as in transformers' whole text."""
    nodes = [
        ("u", None, "user", "Why?"),
        ("a", "u", "assistant", "So."),
        ("b", "u", "assistant", "<think>x</think>No."),
    ]
    nodes += [("v", "a", "user", "And?"), ("c", "v", "assistant", "Then.")]
    trie = build_trie(conversation(*nodes), thinking)
    header = ["<s><|im_start|>user\nWhy?<|im_end|>", "\n<|im_start|>assistant\n"]
    assert decoded(trie, trie.replies[0]) == [*header, "So.<|im_end|>"]
    assert decoded(trie, trie.replies[1]) == [*header, "No.<|im_end|>"]
    last = decoded(trie, trie.replies[2])
    assert last[-2:] == ["\n<|im_start|>assistant\n", "Then.<|im_end|>"]
    texts = {"u": "Why?", "a": "So.", "v": "And?", "c": "Then."}
    path = [Message(role="user" if id in "uv" else "assistant", content=text) for id, text in texts.items()]
    assert "".join(last) == thinking.template.render(path, False).removesuffix("\n")
    prompt = thinking.prompt_ids(path[:3])
    shared = trie.path_ids(trie.path(trie.replies[2].piece)[-2])
    assert prompt[: len(shared)] == shared


def test_sampled_ids_stay_behind_the_prompt_that_they_were_sampled_after(thinking):
    said = "hm</think>So.<|im_end|>"
    ids = tuple(tokenizer().encode(said))
    sampled = Node(
        id="a", parent="u", role="assistant", text="hm</think>So.", token_ids=ids, tokenizer=tokenizer().hash
    )
    trie = build_trie(conversation(("u", None, "user", "Why?"), sampled), thinking)
    path = decoded(trie, trie.replies[0])
    assert path[-2:] == ["\n<|im_start|>assistant\n<think>\n", said]
    assert trie.path_ids(trie.replies[0].piece)[: -len(ids)] == thinking.prompt_ids(
        [Message(role="user", content="Why?")]
    )
