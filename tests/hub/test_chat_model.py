"""A model and a tokenizer that do not belong together are refused before anything is computed."""

import json

import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.run.progress import Progress
from aloe_jax.serve.local import load_engine
from aloe_jax.train.score import score_file
from aloe_jax.tree.schema import Node, write_records
from helpers import tiny
from helpers.tree_samples import aloe_tree, conversation, tokenizer

IMAGE = "<image>"


@pytest.fixture
def folder(tmp_path):
    return tiny.write_folder(tmp_path / "tiny-llama")


@pytest.fixture
def mismatched(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 40}))
    return folder


@pytest.fixture
def seeing(folder):
    """Its tokenizer has a special token that the model has no embedding for, as Gemma 3's has."""
    definition = json.loads((folder / "tokenizer.json").read_text())
    for number in range(tokenizer().vocab_size, tiny.MODEL.vocab + 1):
        text = IMAGE if number == tiny.MODEL.vocab else f"<extra_{number}>"
        definition["added_tokens"].append(definition["added_tokens"][0] | {"id": number, "content": text})
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    return folder


def score(folder, tmp_path, *trees):
    write_records(tmp_path / "trees.jsonl", trees)
    score_file(str(folder), tmp_path / "trees.jsonl", tmp_path / "scores.jsonl", "float32", "keep", Progress())


SIZES = rf"the tokenizer makes {tokenizer().vocab_size} ids of text, the model's vocab_size is 40; put the tokenizer"


def test_what_belongs_together(folder):
    model, chat = read_chat_model(folder, date="1 Jan 2025")
    assert model.vocab == tiny.MODEL.vocab
    assert chat.tokenizer.text_size == tokenizer().vocab_size
    assert chat.template.date == "1 Jan 2025"


def test_a_template_without_end_is_refused_when_it_is_read(folder):
    """And not again for each of the conversations that `aloe inspect` tries, which takes a second each."""
    (folder / "chat_template.jinja").write_text("{% for a in range(10**9) %}{% endfor %}")
    with pytest.raises(InputError, match="refuses turn 1: it computes far more than a conversation needs"):
        read_chat_model(folder)


def test_a_template_that_refuses_one_message_is_read(folder):
    (folder / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    assert read_chat_model(folder)[1].template.text == "{{ raise_exception('never') }}"


def test_neither_scores_nor_serves(mismatched, tmp_path):
    with pytest.raises(InputError, match=SIZES):
        score(mismatched, tmp_path, aloe_tree(1))
    assert not (tmp_path / "scores.jsonl").exists()
    with pytest.raises(InputError, match=SIZES):  # `aloe serve` and `aloe chat`
        load_engine(str(mismatched), slots=1, context=64)


def test_special_tokens_beyond_the_vocabulary_are_refused_only_where_they_are_used(seeing, tmp_path):
    _, chat = read_chat_model(seeing)
    assert chat.tokenizer.encode(IMAGE) == [tiny.MODEL.vocab]
    user, sampled = Node(id="u", parent=None, role="user", text=f"{IMAGE} What is it?"), (tiny.MODEL.vocab, 2)
    reply = Node(id="a", parent="u", role="assistant", text="A cat.")
    ours = reply.model_copy(update={"token_ids": sampled, "tokenizer": chat.tokenizer.hash})
    shown = conversation(user, ours, name="shown")
    said = rf"conversation 'shown' has the token id {tiny.MODEL.vocab}: .* the model's vocab_size is {tiny.MODEL.vocab}"
    with pytest.raises(InputError, match=said):
        score(seeing, tmp_path, aloe_tree(1), shown)
    score(seeing, tmp_path, aloe_tree(1), conversation(user, reply))  # the text of the token is text
    assert (tmp_path / "scores.jsonl").read_text().count("\n") == 3
