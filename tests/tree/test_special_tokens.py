"""A tokenizer is all its files: ids and template variables equal those of `transformers.AutoTokenizer`, live."""

from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.tokenizer import Tokenizer
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import conversation

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TEXTS = (
    "Hello there<end>\n\nand  more <end>",
    "a <tool> b<tool>c xx<tool>xx \t<tool>\n",
    "<PAD><pad> <unk><end ><e<end>nd>",
    "  <end>\u2003\x1c\u3000x<|user|>\n <|user|>y",
    "",
)
END = {"content": "<end>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}


def write(folder, config=None, more=(), change=lambda backend: None, **others):
    """A byte-level tokenizer with the `more` added tokens, tokenizer_config.json, and further JSON files."""
    vocabulary = {token: number for number, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<eos>"])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    change(backend)
    backend.add_tokens(list(more))
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "chat_template": TEMPLATE}
    others["tokenizer_config"] = settings | (config or {})
    for name, content in others.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def lower(backend):
    backend.normalizer = normalizers.Lowercase()


def padded(backend):
    backend.enable_padding(pad_token="<PAD>", pad_id=0)


FOLDERS = {
    "in tokenizer.json": {"more": [AddedToken("<end>", special=True)]},
    "in added_tokens_decoder": {"config": {"added_tokens_decoder": {"257": END}}},
    "by name alone": {"config": {"pad_token": "<pad>", "unk_token": "<unk>"}},
    "in the vocabulary, not added": {
        "config": {"eos_token": "<eos>", "pad_token": "<end>"},
        "generation_config": {"eos_token_id": 257},
    },
    "as an object": {"config": {"eos_token": END | {"__type": "AddedToken", "lstrip": True}}},
    "strips right": {"config": {"added_tokens_decoder": {"257": END | {"rstrip": True}}}},
    "strips both": {"config": {"added_tokens_decoder": {"257": END | {"rstrip": True, "lstrip": True}}}},
    "named, its flags in tokenizer.json": {
        "more": [AddedToken("<end>", special=True, lstrip=True, rstrip=True), AddedToken("<tool>", single_word=True)],
        "config": {"extra_special_tokens": ["<tool>"]},
    },
    "several": {
        "config": {
            "added_tokens_decoder": {
                "259": {"content": "<|user|>", "rstrip": True, "special": True},
                "257": END | {"rstrip": True},
                "258": {"content": "<tool>", "single_word": True, "normalized": False, "special": False},
            }
        }
    },
    "normalised": {
        "change": lower,
        "config": {
            "added_tokens_decoder": {
                "257": END,
                "258": {"content": "<PAD>", "normalized": True, "special": False},
                "259": {"content": "<Tool>", "normalized": True, "special": True},
            }
        },
    },
    "other flags than tokenizer.json": {
        "more": [AddedToken("<end>", special=True)],
        "config": {"added_tokens_decoder": {"257": END | {"rstrip": True}}},
    },
    "special_tokens_map": {
        "special_tokens_map": {"eos_token": END | {"rstrip": True}, "pad_token": "<pad>", "unk_token": "<unk>"}
    },
    "special_tokens_map decides": {"config": {"eos_token": "<eos>"}, "special_tokens_map": {"eos_token": "<end>"}},
    "special_tokens_map is older": {
        "config": {"added_tokens_decoder": {"257": END}},
        "special_tokens_map": {"eos_token": "<eos>", "pad_token": "<pad>"},
    },
    "added_tokens.json": {"added_tokens": {"<tool>": 258, "<end>": 257}},
    "extra": {"config": {"extra_special_tokens": ["<tool>", "<|user|>"]}},
    "additional": {"config": {"additional_special_tokens": ["<tool>", "<|user|>"], "pad_token": "<pad>"}},
    "of its own name": {"config": {"tool_token": "<tool>", "extra_special_tokens": {"image_token": "<|user|>"}}},
    "padding": {"change": padded},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_ids_and_names_are_those_of_transformers(tmp_path, name):
    folder = write(tmp_path / "m", **FOLDERS[name])
    ours, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    theirs._tokenizer.no_padding()
    for text in TEXTS:
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == expected, text
        assert ours.decode(expected, skip_special=False) == theirs.decode(expected), text
    assert ours.special == theirs.special_tokens_map
    assert ours.vocab_size == len(theirs)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_conversation_has_the_ids_of_its_whole_text(tmp_path, name):
    """A line break behind a token that swallows it is no token, whether the prompt or a reply is cut there."""
    folder = write(tmp_path / "m", **FOLDERS[name])
    chat, theirs = ChatFormat.load(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["Hi tool", "Hello there", "And now?", "\n Bye"]
    roles = ["user", "assistant"] * 2
    messages = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=True)]
    plain = [{"role": message.role, "content": message.content} for message in messages]
    prompt = theirs.apply_chat_template(plain[:3], add_generation_prompt=True, return_dict=False, padding=False)
    assert chat.prompt_ids(messages[:3]) == prompt
    nodes = [(str(n), str(n - 1) if n else None, *each) for n, each in enumerate(zip(roles, texts, strict=True))]
    trie = build_trie(conversation(*nodes), chat)
    whole = theirs.apply_chat_template(plain, return_dict=False)
    found = trie.path_ids(trie.replies[-1].piece)
    assert found == whole[: len(found)]
    assert found[-1] in chat.tokenizer.end_of_turn_ids
    assert theirs.decode(whole[len(found) :]).strip() == ""


def test_names_reach_the_template_as_in_transformers(tmp_path):
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    text = "".join(f"[{{{{ {name}_token }}}}]" for name in names) + "<end>"
    config = {"chat_template": text, "bos_token": "<b>", "unk_token": "<u>", "pad_token": "<p>", "mask_token": "<m>"}
    folder = write(tmp_path / "m", config)
    chat = ChatFormat.load(folder)
    said = [Message(role="user", content="x")]
    theirs = AutoTokenizer.from_pretrained(folder)
    rendered = chat.template.render(said, False)
    assert rendered == theirs.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert rendered == "[<b>][<end>][<u>][][<p>][][<m>]<end>"
    other = ChatFormat.load(write(tmp_path / "m", config | {"unk_token": "<v>"})).template
    assert other.hash != chat.template.hash


def test_dropout_is_off(tmp_path):
    """With dropout 0.5 on two merges, 50 calls agree by chance once in 2^50 and more."""
    folder = write(tmp_path / "m")
    definition = json.loads((folder / "tokenizer.json").read_text())
    size = len(definition["model"]["vocab"])
    definition["model"]["vocab"] |= {"ab": size, "abab": size + 1}
    definition["model"] |= {"dropout": 0.5, "merges": ["a b", "ab ab"]}
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    loaded = Tokenizer.load(folder)
    assert {tuple(loaded.encode("abab" * 10)) for _ in range(50)} == {(size + 1,) * 10}
    assert json.loads(loaded.definition)["model"]["dropout"] is None


def test_the_hash_covers_what_other_files_add(tmp_path):
    plain = write(tmp_path / "m", more=[AddedToken("<end>", special=True)])
    hashes = [Tokenizer.load(plain).hash]
    assert hashes[0] == files.hash_file(plain / "tokenizer.json")
    for config in (
        {"pad_token": "<pad>"},
        {"pad_token": "<other>"},
        {"pad_token": END | {"content": "<pad>", "lstrip": True}},
        {"added_tokens_decoder": {"257": END | {"rstrip": True}}},
    ):
        hashes.append(Tokenizer.load(write(plain, config, more=[AddedToken("<end>", special=True)])).hash)
    assert len(set(hashes)) == 5


@pytest.mark.parametrize(
    ("config", "others", "sentence"),
    [
        ({"split_special_tokens": True}, {}, r"the end of turn '<end>' has the ids \[.*\], not the one id 257"),
        ({"split_special_tokens": "no"}, {}, r"tokenizer_config.json: split_special_tokens is 'no'"),
        ({"eos_token": 5}, {}, r"tokenizer_config.json: eos_token is 5; expected the text of a token"),
        ({"eos_token": {"text": "x"}}, {}, r"eos_token is \{'text': 'x'\}; expected"),
        ({"eos_token": END | {"rstrip": "true"}}, {}, r"rstrip of eos_token is 'true'; expected true or false"),
        ({"added_tokens_decoder": {"300": END}}, {}, r"gives '<end>' the id 300, by tokenizer.json it is 257"),
        ({"added_tokens_decoder": {"x": END}}, {}, r"added_tokens_decoder of 'x' is"),
        ({"added_tokens_decoder": [END]}, {}, r"added_tokens_decoder is .*; expected an object"),
        ({"extra_special_tokens": 3}, {}, r"extra_special_tokens is 3; expected a list or an object"),
        ({"extra_special_tokens": [3]}, {}, r"extra_special_tokens is 3; expected the text of a token"),
        ({"chat_template": 3}, {}, r"chat_template is '3'; expected its text"),
        ({"chat_template": [3]}, {}, r"chat_template is '\[3\]'; expected its text"),
        ({}, {"special_tokens_map": []}, r"special_tokens_map.json: expected a JSON object, found list"),
        ({}, {"added_tokens": {"<x>": True}}, r"added_tokens.json: '<x>' is True; expected an id"),
        ({}, {"generation_config": {"eos_token_id": True}}, r"eos_token_id is True; expected an id or a list of ids"),
        ({}, {"generation_config": {"eos_token_id": "257"}}, r"eos_token_id is 257; expected an id"),
        ({}, {"generation_config": {"eos_token_id": [10**30]}}, r"eos_token_id is \[1000"),
        ({}, {"generation_config": [1]}, r"generation_config.json: expected a JSON object"),
    ],
)
def test_other_kinds_are_named(tmp_path, config, others, sentence):
    folder = write(tmp_path / "m", config, **others)
    with pytest.raises(InputError, match=sentence):
        Tokenizer.load(folder)


def test_an_end_of_turn_that_no_text_gives(tmp_path):
    """Id 256 is `<eos>` of the vocabulary, which is no added token: the text becomes its characters."""
    folder = write(tmp_path / "m", generation_config={"eos_token_id": 256})
    with pytest.raises(InputError, match=r"the end of turn '<eos>' has the ids .*added_tokens_decoder"):
        Tokenizer.load(folder)


def backtracking(backend):
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"(a+)+$"), "isolated")


def unknown(backend):
    backend.model = models.WordLevel({"a": 0}, unk_token="[UNK]")


@pytest.mark.parametrize(
    ("change", "text", "reason"),
    [(backtracking, "a" * 40 + "b", "retry-limit-in-match"), (unknown, "b", r"Missing \[UNK\]")],
)
def test_a_tokenizer_that_fails_on_a_text(tmp_path, change, text, reason):
    """A panic of the Rust library is a BaseException, which `except Exception` lets through."""
    loaded = Tokenizer.load(write(tmp_path / "m", change=change))
    with pytest.raises(InputError, match=rf"tokenizer.json fails on a text of {len(text)} characters \(.*{reason}"):
        loaded.encode(text)


def test_a_broken_charsmap(tmp_path):
    folder = write(tmp_path / "m")
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "/////2FiYw=="}
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(InputError, match=r"tokenizer.json: not a readable tokenizer \(.*charsmap"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "special_tokens_map.json"])
def test_text_that_is_not_utf8(tmp_path, name):
    folder = write(tmp_path / "m")
    (folder / name).write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=rf"{name}: not UTF-8 text"):
        Tokenizer.load(folder)
