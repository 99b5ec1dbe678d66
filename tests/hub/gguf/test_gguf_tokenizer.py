"""Pre-tokenisers by name, against llama.cpp's ids for a vocabulary-only file; special tokens; refusals."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub.gguf.config import hf_config
from aloe_jax.hub.gguf.file import GGUFFile
from aloe_jax.hub.gguf.tokenizer import build_tokenizer, token_ids, write_tokenizer
from helpers import hub_files

TOKENS = Path(__file__).parents[2] / "fixtures" / "hub" / "smollm2_tokens.json"


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2"])
def test_ids_equal_llama_cpp(tmp_path, pre):
    tokenizer = build_tokenizer(GGUFFile(hub_files.write_vocabulary(tmp_path / "v.gguf", pre)))
    golden = json.loads(TOKENS.read_text())
    for text, ids in zip(golden["texts"], golden[pre], strict=True):
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, repr(text)


def test_rules_differ_between_names():
    """Otherwise the golden lists could not distinguish the names."""
    golden = json.loads(TOKENS.read_text())
    lists = [golden[pre] for pre in ("gpt-2", "llama-bpe", "qwen2", "smollm")]
    assert all(left != right for left, right in itertools.combinations(lists, 2))


def test_qwen2_composes_text_first(tmp_path):
    tokenizer = build_tokenizer(GGUFFile(hub_files.write_vocabulary(tmp_path / "v.gguf", "qwen2")))
    assert tokenizer.encode("e\u0301").ids == tokenizer.encode("\u00e9").ids


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


def test_eos_is_added_where_the_file_says_so(tmp_path):
    """In front of each text BOS, behind each EOS, pairs of texts included."""
    settings = {"tokenizer.ggml.add_eos_token": True, "tokenizer.ggml.bos_token_id": 7}
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **settings)
    assert build_tokenizer(GGUFFile(file)).encode("t").ids == [1, 95]
    settings["tokenizer.ggml.add_bos_token"] = True
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **settings)
    assert build_tokenizer(GGUFFile(file)).encode("t", "0").ids == [7, 1, 95, 7, 2, 95]


def test_end_of_turn_joins_the_ends(tmp_path):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{"tokenizer.ggml.eot_token_id": 5})
    assert token_ids(GGUFFile(file)) == {"eos_token_id": [95, 5]}


def test_end_of_turn_that_the_file_does_not_name(tmp_path):
    """The declared end, token 5, ends no turn; <|im_end|> in the vocabulary does."""
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{"tokenizer.ggml.eos_token_id": 5})
    assert token_ids(GGUFFile(file)) == {"eos_token_id": [5, 95]}


def test_padding_of_the_embedding_is_no_token(tmp_path):
    """The converter fills the vocabulary up to the embedding's rows with unused tokens; the model keeps the rows."""
    kinds = [1] * 90 + [3, 1] + [5] * 4  # an unused token between others would stay
    settings = {"tokenizer.ggml.token_type": kinds, "tokenizer.ggml.eos_token_id": 90}
    source = GGUFFile(hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **settings))
    assert build_tokenizer(source).get_vocab_size() == 92
    assert hf_config(source)["vocab_size"] == 96


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model is 't5'.*Hugging Face folder"),
        ({"tokenizer.ggml.token_type": [1, 3]}, "token_type has 2 entries for 96 tokens"),
        ({"tokenizer.ggml.token_type": [1] * 95 + [5]}, "eos_token_id is 95; the vocabulary has 95 tokens"),
        ({"tokenizer.ggml.tokens": ["a", "b"] * 48}, "tokenizer.ggml.tokens has 'a' twice"),
        ({"tokenizer.ggml.merges": None}, "'tokenizer.ggml.merges' is missing"),
        ({"tokenizer.ggml.token_type": None}, "'tokenizer.ggml.token_type' is missing"),
        ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre is 'tekken'.*smollm"),
        ({"tokenizer.ggml.bos_token_id": 96}, "bos_token_id is 96; the vocabulary has 96 tokens"),
        ({"tokenizer.ggml.add_bos_token": True}, "bos_token_id is missing"),
        ({"tokenizer.ggml.merges": ["t x"]}, "merges do not fit the tokens"),
    ],
)
def test_refused(tmp_path, metadata, sentence):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **metadata)
    with pytest.raises(InputError, match=sentence):
        write_tokenizer(GGUFFile(file), tmp_path)
