"""SentencePiece vocabularies of GGUF files, against the library itself and llama.cpp (golden: tests/fixtures/hub)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from aloe_jax.errors import InputError
from aloe_jax.hub import importer
from aloe_jax.hub.gguf.file import GGUFFile
from aloe_jax.hub.gguf.tokenizer import build_tokenizer, token_ids
from aloe_jax.tree.tokenizer import Tokenizer
from helpers import gguf_models, hub_files

GOLDEN = Path(__file__).parents[2] / "fixtures" / "hub" / "sentencepiece.json"
TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


def _tokenizer(folder, golden, kind, **metadata):
    return build_tokenizer(GGUFFile(hub_files.write_sentencepiece(folder / "v.gguf", kind, golden[kind], **metadata)))


@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_ids_are_sentencepieces(tmp_path, golden, kind):
    """Texts without control tokens: the library's ids and llama.cpp's are the same; chats: llama.cpp's."""
    tokenizer = _tokenizer(tmp_path, golden, kind)
    for texts, ids in (("texts", "text_ids"), ("chats", "chat_ids")):
        for text, expected in zip(golden[texts], golden[kind][ids], strict=True):
            assert tokenizer.encode(text, add_special_tokens=False).ids == expected, repr(text)


@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_decoding_gives_the_text_back(tmp_path, golden, kind):
    tokenizer = _tokenizer(tmp_path, golden, kind)
    for text, ids in zip(golden["texts"], golden[kind]["text_ids"], strict=True):
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_bos_unless_the_file_says_otherwise(tmp_path, golden):
    added = _tokenizer(tmp_path, golden, "gemma").encode("the").tokens
    plain = _tokenizer(tmp_path, golden, "gemma", **{"tokenizer.ggml.add_bos_token": False}).encode("the").tokens
    assert added == ["<s>", *plain]
    assert "<s>" not in plain


def test_ids_that_the_file_does_not_state(tmp_path, golden):
    """llama.cpp takes 0, 1 and 2 for unknown, BOS and EOS."""
    unstated = dict.fromkeys(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "unknown"))
    file = hub_files.write_sentencepiece(tmp_path / "v.gguf", "llama", golden["llama"], **unstated)
    assert token_ids(GGUFFile(file)) == {"bos_token_id": 1, "eos_token_id": 2}
    assert build_tokenizer(GGUFFile(file)).model.unk_token == "<unk>"


def test_the_folder_opens(tmp_path, golden, monkeypatch):
    """A whole Gemma 3 file: transformers and the tree core read the folder's tokenizer, with the same ids. The file
    declares </s> alone as an end; <end_of_turn> is known by its text."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    words = golden["gemma"]
    number = words["tokens"].index
    model = gguf_models.config("gemma3", vocab_size=len(words["tokens"]))
    vocabulary = hub_files.sentencepiece_metadata("gemma", words)
    vocabulary |= {"tokenizer.chat_template": TEMPLATE, "tokenizer.ggml.merges": None}
    out = importer.import_model(
        str(hub_files.write_gguf(tmp_path / "f.gguf", model, {}, **vocabulary)), tmp_path / "out"
    )
    theirs, ours = AutoTokenizer.from_pretrained(out), Tokenizer.load(out)
    chat = [{"role": "user", "content": "Two  spaces and\n\n\nthree lines, <b>bold</b>"}]
    text = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = theirs(text, add_special_tokens=False)["input_ids"]
    assert ids[:2] == [number("<s>"), number("<start_of_turn>")]
    assert theirs.decode(ids) == text
    assert theirs("the")["input_ids"][0] == number("<s>")
    assert ours.encode(text) == ids
    assert ours.end_of_turn_ids == {number("</s>"), number("<end_of_turn>")}
    for file in ("config.json", "generation_config.json"):
        settings = json.loads((out / file).read_text())
        assert settings["eos_token_id"] == [number("</s>"), number("<end_of_turn>")]


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"tokenizer.ggml.scores": [0.0, 1.0]}, "tokenizer.ggml.scores has 2 entries for 700 tokens"),
        ({"tokenizer.ggml.scores": None}, "'tokenizer.ggml.scores' is missing"),
        ({"tokenizer.ggml.unknown_token_id": 700}, "unknown_token_id is 700; the vocabulary has 700 tokens"),
    ],
)
def test_refused(tmp_path, golden, metadata, sentence):
    with pytest.raises(InputError, match=sentence):
        _tokenizer(tmp_path, golden, "gemma", **metadata)
