"""Traits of the template fixtures, and of vocabularies."""

import dataclasses
import json

import pytest
import tokenizers
from etils import epath
from tokenizers import decoders, models, normalizers

from aloe_jax.inspect.inspection import inspect_model
from aloe_jax.inspect.tokens import token_texts, visible
from aloe_jax.inspect.traits import forms, sample, traits
from aloe_jax.inspect.vocabulary import round_trip, special_tokens
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.tokenizer import Tokenizer
from helpers.tree_samples import SPECIAL, chat_format, tokenizer


def found(name, **options):
    return {trait.name: trait for trait in traits(chat_format(name, **options))}


@pytest.mark.parametrize(
    ("template", "trait", "finding", "shown"),
    [
        ("chatml", "system message", "taken", "Answer like a sailor."),
        (
            "chatml",
            "without a system message",
            "before the first user message",
            "You are a helpful assistant<|im_end|>",
        ),
        ("chatml", "generation prompt", "before each reply", "<|im_start|>assistant\n"),
        ("chatml", "reply", "'\\n', which the template writes behind it", "Behind the mill.<|im_end|>"),
        ("chatml", "end of turn", "<|im_end|> (id 2)", ""),
        ("chatml", "begin of sequence", "begins with <|im_start|> (id 1)", ""),
        ("chatml", "thinking", "kept in the last message and kept in history", "<think>"),
        ("chatml", "history", "kept", ""),
        ("chatml", "white space around texts", "kept in user messages, kept in replies", ""),
        ("chatml", "date", "not used", ""),
        ("qwen3", "reply", "trained text", "<think>\n\n</think>\n\nBehind the mill.<|im_end|>"),
        ("qwen3", "thinking", "kept in the last message and dropped in history: the next turn is a branch", "mill"),
        ("qwen3", "history", "rewritten", "Behind the mill.<|im_end|>"),
        ("llama3", "date", "config.template.date fixes it to '26 Jul 2024'", "Today Date: 26 Jul 2024"),
        ("llama3", "white space around texts", "trimmed in user messages, trimmed in replies", ""),
        ("gemma", "system message", "refused: the template refuses turn 1: there is no system role", ""),
        ("mistral_moving", "system message", "moves to a later message", "Answer like a sailor.\n\nAnd the"),
        ("mistral_v0_3", "generation prompt", "none: a reply begins right behind the user message", ""),
        ("qwen2_5", "begin of sequence", "declares no bos_token", ""),
    ],
)
def test_traits_of_templates(template, trait, finding, shown):
    if template == "qwen2_5":
        assert SPECIAL[template][0] is None
    it = found(template)[trait]
    assert finding in it.finding
    assert shown in it.shown


def test_a_refusal_does_not_depend_on_the_name_of_the_folder(folder):
    path = folder("chatml")
    (path / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    settings = json.loads((path / "tokenizer_config.json").read_text()) | {"bos_token": "<|im_start|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    refused = [trait.finding for trait in traits(ChatFormat.load(path)) if "division by zero" in trait.finding]
    assert len(refused) == 8
    assert all("refuse" in finding and path.name not in finding for finding in refused)


def test_nor_does_that_of_the_tokenizer(folder):
    """A letter that ends a turn has no other tokens."""
    path = folder("chatml")
    vocabulary = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": vocabulary["A"]}))
    chat = ChatFormat.load(path)
    sentences = [form.refused for form in forms(chat)] + [trait.finding for trait in traits(chat)]
    refused = [sentence for sentence in sentences if "no other tokens" in sentence]
    assert len(refused) > 2
    assert all("which the tokenizer has no other tokens for" in sentence for sentence in refused)


def test_folding_is_told_as_what_it_is():
    assert (
        "in front of the first user message" in found("gemma", system="fold_into_first_user")["system message"].finding
    )


@pytest.mark.parametrize(
    ("template", "form", "refused"),
    [
        ("gemma", "a system message first", "there is no system role"),
        ("gemma", "two user messages in a row", "roles have to alternate"),
        ("gemma", "two turns", ""),
        ("chatml", "two replies in a row", ""),
        ("chatml", "a reply first", "does not start with its own prompt"),
        ("qwen3", "two replies in a row", "does not start with its own prompt"),
    ],
)
def test_forms_that_are_refused_come_with_the_sentence(template, form, refused):
    it = next(item for item in forms(chat_format(template)) if item.name == form)
    assert bool(it.refused) == bool(refused)
    assert refused in it.refused
    assert "conversation '" not in it.refused


def test_a_text_that_a_template_drops_is_named():
    """One template renders the last of several messages of a role, which loses texts without an error; another one no
    system message, which is refused."""
    turn = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>"
    prompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    last = (
        "{% for m in messages %}{% if loop.last or loop.nextitem.role != m.role %}" + turn + "{% endif %}{% endfor %}"
    )
    deaf = "{% for m in messages if m.role != 'system' %}" + turn + "{% endfor %}"
    found = {}
    for name, text in (("last", last), ("deaf", deaf)):
        chat = chat_format("chatml")
        chat = dataclasses.replace(chat, template=dataclasses.replace(chat.template, text=text + prompt))
        found[name] = {form.name: form for form in forms(chat)}
        system = {trait.name: trait for trait in traits(chat)}["system message"].finding
        assert system == "taken" if name == "last" else "leaves out the text of system messages" in system
    assert found["last"]["two user messages in a row"].lost == ("Answer like a sailor.",)
    assert found["last"]["two turns"].lost == ()
    assert "leaves out the text of system messages" in found["deaf"]["a system message first"].refused


@pytest.mark.parametrize("template", SPECIAL)
def test_every_template_has_a_sample_with_a_system_message_where_it_takes_one(template):
    has_system = sample(chat_format(template)).nodes[0].role == "system"
    assert has_system == (template not in ("gemma", "mistral_v0_3"))


def sentencepiece_like():
    """A vocabulary of SentencePiece's kind: bytes, "▁" for a space, and words that no merge makes."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "a", "b", "c", "▁a", "ab", "abc", "bc"]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, [("a", "b"), ("▁", "a"), ("ab", "c")], byte_fallback=True, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return dataclasses.replace(tokenizer(), _backend=backend)


def test_tokens_that_their_own_text_does_not_give_back():
    """Of 267 tokens, bytes above 127 are parts of a character; the bytes of " ", "a", "b", "c" are written by the words
    of those letters, and nothing merges to "bc": 128 and 5 of them."""
    kept = round_trip(sentencepiece_like())
    assert (kept.tokens, kept.partial, kept.strays) == (267, 128, 5)
    assert kept.whole == 267 - 128 - 5
    assert [(stray.entry, stray.text) for stray in kept.examples] == [
        ("<0x20>", " "),
        ("<0x61>", "a"),
        ("<0x62>", "b"),
        ("<0x63>", "c"),
        ("bc", "bc"),
    ]
    fixture = round_trip(tokenizer())
    assert (fixture.tokens, fixture.whole, fixture.strays) == (402, 274, 0)


def test_the_texts_of_tokens_keep_spaces_and_characters():
    words = sentencepiece_like()
    ids = words.encode("<s>abc a é")
    assert token_texts(words, ids) == ["<s>", " ", "abc", " a", " ", "", "é"]
    assert token_texts(words, words.encode(" abc", after="</s>"), [2]) == [" ", " ", "abc"]
    known = tokenizer()
    fox = known.encode("🦊!")
    assert len(fox) == 5
    assert token_texts(known, fox) == ["", "", "", "🦊", "!"]
    assert token_texts(known, fox[:2]) == ["", "\ufffd"]  # an unfinished end is shown


def test_what_a_terminal_would_obey_is_visible():
    assert visible("a\n\tb\r\x1b[31m\u202e\u00a0 ü\U000e0041") == "a⏎\n⇥b␍\\x1b[31m\\u202e\\xa0 ü\\U000e0041"


def test_special_tokens_and_where_they_are_declared(folder):
    path = folder("chatml")
    (path / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": {"content": "<|im_end|>"}, "additional_special_tokens": ["<|never_known|>"]})
    )
    it = {token.text: token for token in special_tokens(epath.Path(path), Tokenizer.load(path), 5)}
    end = it["<|im_end|>"]
    assert (end.id, end.ends_turn, end.in_model) == (2, True, True)
    assert end.declared == (
        "tokenizer.json",
        "tokenizer_config.json: eos_token",
        "special_tokens_map.json: pad_token",
        "generation_config.json: eos_token_id",
        "config.json: eos_token_id",
    )
    added = it["<|never_known|>"]  # as transformers does, behind the ids of tokenizer.json
    assert (added.id, added.declared) == (402, ("special_tokens_map.json: additional_special_tokens",))
    assert not it["<end_of_turn>"].in_model  # id 13 of a model with 5 rows


def test_a_model_folder_alone(folder):
    it = inspect_model(str(folder("chatml")))
    assert it.template.vocabulary.tokens == 402
    assert it.template.vocabulary.spare == 408 - 402
    assert it.conversations[0].id == "sample"
    assert it.conversations[0].replies[0].verdict == "chosen"
