"""Every template of tests/fixtures renders as by `transformers`, live: 33 of them, 8 conversations each, with and
without a system message, options of the templates, and prompts that begin thinking."""

from __future__ import annotations

import contextlib
import functools
import json

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Node
from aloe_jax.tree.template import DEFAULT_DATE, ChatFormat, ChatTemplate
from aloe_jax.tree.trie import build_trie
from helpers.template_samples import CONVERSATIONS, MARKS, SYSTEM, Then, messages, template
from helpers.tree_samples import FIXTURES, conversation, tokenizer

ROLES = {"s": "system", "u": "user", "a": "assistant"}
TOOL = {"name": "now", "parameters": {"zone": {"type": "string", "enum": ["<a>", "é"]}}}
OPTIONS = {
    "qwen3": [{"enable_thinking": False}, {"enable_thinking": True}],
    "qwq": [{"enable_thinking": False}, {"tools": [TOOL]}],
    "smollm3": [{"enable_thinking": False}, {"enable_thinking": "slow"}, {"xml_tools": ["now"], "python_tools": None}],
    "llama3": [{"date_string": "1 May 2020"}],
    "llama3_tools": [{"builtin_tools": ["shell", "search"]}, {"custom_tools": [TOOL]}, {"tools": [TOOL, TOOL]}],
    "granite": [{"controls": {"hints": True}, "documents": [{"doc_id": 1, "text": "Rain."}]}, {"tools": [TOOL]}],
    "harmony": [{"reasoning_effort": "high", "model_identity": "A model."}],
    "nemo_counted": [{"tools": [TOOL]}],
    "glm4": [{"enable_thinking": False}],
    "falcon3": [{"tools": [TOOL]}],
}


@functools.cache
def theirs(name):
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    marks = MARKS[name]
    made.bos_token, made.eos_token, made.unk_token, made.pad_token = marks.bos, marks.eos, "<unk>", "<pad>"
    made.chat_template = template(name)
    return made


@functools.cache
def ours(name, options):
    marks, special = MARKS[name], {"unk_token": "<unk>", "pad_token": "<pad>"}
    return ChatTemplate(template(name), bos=marks.bos, eos=marks.eos, special=special, variables=json.loads(options))


def both(name, plain, prompt, **options):
    """What `transformers` and we render; None where it is refused."""
    options = {"date_string": DEFAULT_DATE} | options
    expected = found = None
    with contextlib.suppress(Exception):  # any of Jinja's, TypeError, ...
        expected = theirs(name).apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt, **options)
    with contextlib.suppress(InputError):
        found = ours(name, json.dumps(options)).render([Message(**each) for each in plain], prompt)
    return expected, found


@pytest.fixture(autouse=True)
def _day(monkeypatch):
    monkeypatch.setattr(chat_template_utils, "datetime", Then)


def test_all_templates_are_here():
    assert sorted(MARKS) == sorted(path.stem for path in (FIXTURES / "templates").glob("*.jinja"))


@pytest.mark.parametrize("said", CONVERSATIONS)
@pytest.mark.parametrize("name", MARKS)
def test_rendered_as_by_transformers(name, said):
    """Without a system message, with one, and with an empty one; with and without the generation prompt."""
    rendered = 0
    for system in (None, SYSTEM, ""):
        for prompt in (False, True):
            expected, found = both(name, messages(CONVERSATIONS[said], system), prompt)
            assert found == expected
            rendered += found is not None
    assert rendered == (2 if name in ("gemma", "mistral_v0_1") else 6)  # these have no system role


@pytest.mark.parametrize(("name", "options"), [(name, each) for name in OPTIONS for each in OPTIONS[name]])
def test_options_of_templates(name, options):
    for said in ("question", "long", "thinking"):
        for system in (None, "Be brief. /no_think", SYSTEM):
            expected, found = both(name, messages(CONVERSATIONS[said], system), True, **options)
            assert found == expected is not None


@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("roles", ["s", "a", "uu", "uaa", "usu", "sau"])
def test_other_orders_are_rendered_or_refused_alike(name, roles):
    plain = [{"role": role, "content": f"{number}, {role}"} for number, role in enumerate(map(ROLES.get, roles))]
    expected, found = both(name, plain, True)
    assert found == expected


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
