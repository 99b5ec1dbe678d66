"""Pre-tokenisers by name, against llama.cpp's ids for a vocabulary-only file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hub_files
from aloe_jax.errors import InputError
from aloe_jax.hub.gguf_file import GGUFFile
from aloe_jax.hub.gguf_tokenizer import build_tokenizer, token_ids, write_tokenizer

TOKENS = Path(__file__).parents[1] / "fixtures" / "hub" / "smollm2_tokens.json"


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe"])
def test_ids_equal_llama_cpp(tmp_path, pre):
    tokenizer = build_tokenizer(GGUFFile(hub_files.write_vocabulary(tmp_path / "v.gguf", pre)))
    golden = json.loads(TOKENS.read_text())
    for text, ids in zip(golden["texts"], golden[pre], strict=True):
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, repr(text)


def test_rules_differ_between_names():
    """Else the golden lists could not tell one name from another."""
    golden = json.loads(TOKENS.read_text())
    assert golden["gpt-2"] != golden["llama-bpe"]


def test_bos_is_added_where_the_name_or_the_file_says_so(tmp_path):
    plain, llama3 = (
        build_tokenizer(GGUFFile(hub_files.write_vocabulary(tmp_path / f"{pre}.gguf", pre, merges=10)))
        for pre in ("gpt-2", "llama-bpe")
    )
    assert plain.encode("a").tokens == ["a"]
    assert llama3.encode("a").tokens == ["<|im_start|>", "a"]
    settings = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 7}
    forced = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **settings)
    assert build_tokenizer(GGUFFile(forced)).encode("t0").ids == [7, 1, 2]  # the digit stands alone


def test_end_of_turn_joins_the_ends(tmp_path):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{"tokenizer.ggml.eot_token_id": 5})
    assert token_ids(GGUFFile(file)) == {"eos_token_id": [95, 5]}


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model is 'llama'.*Hugging Face folder"),
        ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre is 'tekken'.*smollm"),
        ({"tokenizer.chat_template": ""}, "chat_template is missing"),
        ({"tokenizer.ggml.bos_token_id": 96}, "bos_token_id is 96; the vocabulary has 96 tokens"),
        ({"tokenizer.ggml.add_bos_token": True}, "bos_token_id is missing"),
        ({"tokenizer.ggml.merges": ["t x"]}, "merges do not fit the tokens"),
    ],
)
def test_refused(tmp_path, metadata, sentence):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **metadata)
    with pytest.raises(InputError, match=sentence):
        write_tokenizer(GGUFFile(file), tmp_path)
