"""Tokenizers of every construction with templates of their kind: the ids of our pieces are those of the whole text.

Truth is `transformers.AutoTokenizer` on the same folder. Texts of special tokens in messages are text, which
transformers does on request only (`sanitize_control_tokens`). Its other default, to take a special token's text in a
message for the token, is not ours.
"""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import DEFAULT_DATE, ChatFormat
from aloe_jax.tree.trie import build_trie
from helpers.template_samples import CONVERSATIONS, MARKS, SYSTEM, Then, messages, write_chat_folder
from helpers.tokenizer_samples import TOKENIZERS
from helpers.tree_samples import conversation

PAIRS = {
    "gpt2": ("chatml", "olmo"),
    "prefix space": ("phi4", "zephyr"),
    "bytes alone": ("specials_dated", "qwen3"),
    "llama3": ("llama3", "llama3_plain", "llama3_tools"),
    "qwen": ("qwen2_5", "qwen3", "qwq", "parts_macro"),
    "capitals": ("mistral_tekken", "harmony", "nemo_counted"),
    "deepseek": ("deepseek", "thinking_opener"),
    "digits": ("smollm3", "command_r", "granite"),
    "punctuation": ("falcon3",),
    "spaces as tokens": ("olmo", "phi3"),
    "nfkc": ("granite",),
    "lower case": ("openchat",),
    "byte normaliser": ("phi4",),
    "beginning": ("olmo2",),
    "rstrip": ("phi3",),
    "lstrip": ("chatml",),
    "single word": ("openchat",),
    "legacy": ("llama2", "vicuna", "zephyr"),
    "legacy, rstrip": ("phi3",),
    "first": ("mistral_v0_1", "mistral_moving", "openchat"),
    "first, lines": ("padded_turns", "mistral_v0_3"),
    "always": ("llama2",),
    "never": ("command_r",),
    "replaced": ("gemma", "gemma3"),
    "replaced, lines": ("gemma3",),
    "unigram": ("vicuna", "chatml"),
    "unigram always": ("zephyr",),
    "unigram nfkc": ("qwen2_5",),
    "unigram, white space": ("mistral_v0_1", "olmo2"),
    "wordpiece": ("chatml",),
    "suffix": ("zephyr",),
    "prefix": ("openchat",),
    "word": ("phi4",),
}
# Where a mark swallows the white space before it, an empty reply begins inside its own prompt.
# Where a line break is a space, transformers puts that of its anchor behind a sanitised token's text.
LEFT_OUT = {("lstrip", "empty"), ("unigram, white space", "marks")}


@pytest.fixture(autouse=True)
def _day(monkeypatch):
    monkeypatch.setattr(chat_template_utils, "datetime", Then)


def test_every_tokenizer_and_every_template_has_a_pair():
    assert PAIRS.keys() == TOKENIZERS.keys()
    assert sum(map(len, PAIRS.values())) >= 27
    assert {name for names in PAIRS.values() for name in names} == MARKS.keys() - {"glm4"}  # which ends no reply


def opened(folder, kind, name):
    write_chat_folder(folder, TOKENIZERS[kind](), name)
    return ChatFormat.load(folder), AutoTokenizer.from_pretrained(folder)


def told(plain):
    return [Message(**each) for each in plain]


def tree(plain):
    nodes = [(str(n), str(n - 1) if n else None, each["role"], each["content"]) for n, each in enumerate(plain)]
    return conversation(*nodes)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in PAIRS.items() for name in names])
def test_ids_are_those_of_the_whole_text(tmp_path, kind, name):
    """The prompt's ids, and each reply's path up to its end of turn; what follows that in the whole text is written
    behind every reply. A template that refuses the system role is tried without one."""
    chat, theirs = opened(tmp_path / "m", kind, name)
    compared = 0
    for case, said in CONVERSATIONS.items():
        for system in [None] if name in ("gemma", "mistral_v0_1", "mistral_v0_3") else [None, SYSTEM]:
            if (kind, case) in LEFT_OUT:
                continue
            plain = messages(said, system)
            asked = plain[:-1] if plain[-1]["role"] == "assistant" else plain

            def ids(part, prompt=False, sanitised=case == "marks"):
                return theirs.apply_chat_template(
                    part,
                    add_generation_prompt=prompt,
                    return_dict=False,
                    date_string=DEFAULT_DATE,
                    sanitize_control_tokens=sanitised,
                )

            assert chat.prompt_ids(told(asked)) == ids(asked, prompt=True), (case, system)
            trie = build_trie(tree(plain), chat)
            for reply in trie.replies:
                whole, found = ids(plain[: reply.node + 1]), trie.path_ids(reply.piece)
                assert found == whole[: len(found)], (case, system, reply.node)
                assert found[-1] in chat.tokenizer.end_of_turn_ids
                compared += 1
    assert compared >= 11


@pytest.mark.parametrize(("kind", "name"), [("gpt2", "llama3"), ("replaced, lines", "qwq")])
def test_a_prompt_keeps_the_ids_that_it_has_alone(tmp_path, kind, name):
    """The whole text would join or part the line breaks at the border. A model answers behind the prompt as it is, so
    the reply is trained behind those ids."""
    chat, theirs = opened(tmp_path / "m", kind, name)
    plain = messages(CONVERSATIONS["answered"], None)
    prompt = theirs.apply_chat_template(plain[:1], add_generation_prompt=True, return_dict=False)
    trie = build_trie(tree(plain), chat)
    found = trie.path_ids(trie.replies[0].piece)
    whole = theirs.apply_chat_template(plain, return_dict=False)
    assert found[: len(prompt)] == prompt != whole[: len(prompt)]
    text = theirs.apply_chat_template(plain, tokenize=False)
    assert theirs.decode(found) == text[: len(theirs.decode(found))]


def test_a_template_that_ends_no_reply_is_refused(tmp_path):
    """The prompt is rendered and tokenised as by transformers."""
    chat, theirs = opened(tmp_path / "m", "qwen", "glm4")
    plain = messages(CONVERSATIONS["answered"], SYSTEM)
    prompt = theirs.apply_chat_template(plain[:2], add_generation_prompt=True, return_dict=False)
    assert chat.prompt_ids(told(plain[:2])) == prompt
    with pytest.raises(InputError, match=r"ends the reply with none of the .*; put a special token behind a reply"):
        build_trie(tree(plain), chat)
