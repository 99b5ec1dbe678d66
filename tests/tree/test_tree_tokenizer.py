"""`Tokenizer`: exact ids, end-of-turn tokens, errors for missing files, and pieces in the middle of a text."""

import json
import shutil

import pytest
import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from aloe_jax.errors import InputError
from aloe_jax.tree.tokenizer import Tokenizer
from helpers.tree_samples import FIXTURES, tokenizer


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FIXTURES / "tokenizer", tmp_path / "model")


def edit(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_text_comes_back():
    text = "Grüße, 世界 🌍!\n\n  def f(x):\n\treturn x"
    assert tokenizer().decode(tokenizer().encode(text)) == text


def test_special_texts_are_one_token_and_nothing_is_added():
    ids = tokenizer().encode("<|im_start|>a<|im_end|>")
    assert len(ids) == 3
    assert tokenizer().decode(ids) == "a"
    assert tokenizer().decode(ids, skip_special=False) == "<|im_start|>a<|im_end|>"
    assert tokenizer().encode("") == []


def test_end_of_turn_is_what_the_folder_declares_and_known_turn_enders():
    assert set(tokenizer().end_of_turn_texts) == {"<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<end_of_turn>"}
    assert {tokenizer().decode([token], skip_special=False) for token in tokenizer().end_of_turn_ids} == set(
        tokenizer().end_of_turn_texts
    )


def test_single_eos_id_and_eos_as_object(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": 0}')
    edit(folder / "tokenizer_config.json", eos_token={"content": "</s>", "special": True})
    loaded = Tokenizer.load(folder)
    assert loaded.eos_token == "</s>"
    assert {"<|endoftext|>", "</s>"} <= set(loaded.end_of_turn_texts)


def test_stored_truncation_is_not_applied(folder):
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(8)
    backend.save(str(folder / "tokenizer.json"))
    assert len(Tokenizer.load(folder).encode("<s>" * 600)) == 600


def test_hash_follows_the_content_of_the_tokenizer(folder):
    assert Tokenizer.load(folder).hash == tokenizer().hash
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    assert Tokenizer.load(folder).hash != tokenizer().hash


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        Tokenizer.load(folder)


def test_missing_template_is_an_error_and_every_place_for_it_is_read(folder):
    edit(folder / "tokenizer_config.json", chat_template=None)
    with pytest.raises(InputError, match=r"no chat template.*chat_template\.jinja"):
        Tokenizer.load(folder)
    (folder / "chat_template.json").write_text('{"chat_template": "old"}')
    assert Tokenizer.load(folder).chat_template == "old"
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "named"}]
    edit(folder / "tokenizer_config.json", chat_template=named)
    assert Tokenizer.load(folder).chat_template == "named"
    (folder / "chat_template.jinja").write_text("file")
    assert Tokenizer.load(folder).chat_template == "file"


def test_a_token_that_stands_twice_in_the_vocabulary_is_refused(folder):
    """The library takes the last id in silence."""
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"vocab": {', '"vocab": {"<|im_end|>": 5, ', 1))
    assert path.read_text().count('"<|im_end|>": ') > 1
    with pytest.raises(InputError, match=r"not a readable tokenizer \(key '.+' stands twice"):
        Tokenizer.load(folder)


def test_two_tokens_with_one_id_are_refused(folder):
    """The library takes either, by the order of a hash table."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["O"] = content["model"]["vocab"]["@"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"tokenizer.json: '@' and 'O' both have the id \d+"):
        Tokenizer.load(folder)


def test_broken_tokenizer_file_and_unknown_eos_are_named(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 99999]}')
    with pytest.raises(InputError, match="99999"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a readable tokenizer"):
        Tokenizer.load(folder)


def sentencepiece_like(folder, scheme):
    """A character tokenizer that marks the beginning of a text with a space, as SentencePiece vocabularies do."""
    characters = {character: number for number, character in enumerate("▁\nabcHi")}
    backend = tokenizers.Tokenizer(models.BPE(vocab=characters, merges=[]))
    if scheme == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    backend.add_special_tokens([AddedToken("[/INST]", special=True, normalized=False)])
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True, normalized=False)])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").unlink()
    return Tokenizer.load(folder)


@pytest.mark.parametrize("scheme", ["first", "always", "normalizer"])
@pytest.mark.parametrize("before", ["a\n", "ab[/INST]", "a<|im_end|>"])
def test_a_piece_in_the_middle_is_encoded_as_in_the_whole_text(folder, scheme, before):
    loaded = sentencepiece_like(folder, scheme)
    whole = loaded.encode(before + "Hi b")
    assert loaded.encode(before) + loaded.encode("Hi b", after=before) == whole


def test_the_first_piece_keeps_its_prefix_space(folder):
    loaded = sentencepiece_like(folder, "first")
    assert loaded.encode("Hi") == [0, 5, 6]  # ▁ H i
    assert loaded.encode("Hi", after="a\n") == [5, 6]


@pytest.mark.parametrize("scheme", ["first", "always", "normalizer"])
def test_a_piece_that_would_merge_with_its_anchor_gets_no_prefix_space(folder, scheme):
    """The line break before the border and the one behind it are one token of the whole text, but not of the pieces."""
    sentencepiece_like(folder, scheme)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.add_tokens([AddedToken("\n\n", normalized=False)])
    backend.save(str(folder / "tokenizer.json"))
    loaded = Tokenizer.load(folder)
    assert loaded.encode("\nHi", after="a\n") == [1, 5, 6]  # line break, H, i


def test_a_piece_behind_the_text_of_a_special_token_is_encoded_as_behind_any_text(folder):
    loaded = sentencepiece_like(folder, "normalizer")
    ids = loaded.encode(loaded.marked("[/INST] b<|im_end|>a"), after="a<|im_end|>")
    assert [loaded.entry(token) for token in ids] == [
        "▁",
        "b",
        "i",
        "a",
    ]  # of the special tokens' texts only the i is known
