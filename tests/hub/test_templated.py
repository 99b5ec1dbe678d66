"""Chat templates chosen for models that have none."""

import json
import shutil

import pytest
from etils import epath
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from aloe_jax.errors import InputError
from aloe_jax.hub import source
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.identity import model_hash
from aloe_jax.hub.importer import import_model
from aloe_jax.hub.templated import families, template_text, templated
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatTemplate
from helpers import hub_files, tiny
from helpers.tree_samples import FIXTURES

TURNS = [
    Message(role="user", content="Hi"),
    Message(role="assistant", content="Ho"),
    Message(role="user", content="So"),
]
# Each template on TURNS, with <B> and <E> for the tokenizer's own begin and end.
RENDERED = {
    "chatml": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\nSo<|im_end|>\n"
    "<|im_start|>assistant\n",
    "llama3": "<B><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
    "\n\nHo<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nSo<|eot_id|><|start_header_id|>assistant"
    "<|end_header_id|>\n\n",
    "gemma": "<B><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n<start_of_turn>user\nSo"
    "<end_of_turn>\n<start_of_turn>model\n",
    "plain": "<B>User:\nHi\n\nAssistant:\nHo<E>\nUser:\nSo\n\nAssistant:\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path):
    """A tiny model whose tokenizer has ChatML's tokens, without a chat template."""
    folder = tiny.write_folder(tmp_path / "base")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_the_wording_of_each_family():
    assert families() == sorted(RENDERED)
    for name, expected in RENDERED.items():
        found = ChatTemplate(template_text(name), bos="<B>", eos="<E>").render(TURNS, add_generation_prompt=True)
        assert found == expected, name


@pytest.mark.parametrize("name", ["llama3", "gemma"])
def test_a_family_is_written_as_its_own_models_have_it(name):
    """The wording is ours, the text that a conversation becomes is not."""
    original = (FIXTURES / "templates" / f"{'llama3_plain' if name == 'llama3' else name}.jinja").read_text()
    ours, theirs = (ChatTemplate(text, bos="<B>", eos="<E>") for text in (template_text(name), original))
    for prompt in (True, False):
        turns = TURNS if prompt else TURNS[:2]
        assert ours.render(turns, prompt) == theirs.render(turns, prompt)


def test_a_base_model_with_a_template(base):
    with pytest.raises(InputError, match=r"no chat template; .* config.model.template .* chatml or plain"):
        read_chat_model(base)
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    folder = templated(epath.Path(base), "chatml")
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    _, chat = read_chat_model(folder)
    assert chat.template.text == template_text("chatml")
    assert chat.prompt_ids(TURNS) == chat.tokenizer.encode(RENDERED["chatml"])
    assert templated(epath.Path(base), "chatml") == folder  # the cached one
    assert model_hash(folder) != model_hash(templated(epath.Path(base), "plain"))
    assert templated(epath.Path(base), "") == epath.Path(base)


def test_weights_are_those_of_the_model_even_if_they_change(base):
    folder = templated(epath.Path(base), "chatml")
    (base / "model.safetensors").write_bytes(b"others")
    assert (folder / "model.safetensors").read_bytes() == b"others"
    shutil.copy(base / "tokenizer_config.json", base / "other.json")  # another file: another folder
    assert templated(epath.Path(base), "chatml") != folder


def test_a_file_replaces_the_models_own_template(tmp_path):
    folder = tiny.write_folder(tmp_path / "m")
    (tmp_path / "t.jinja").write_text(template_text("plain"))
    _, chat = read_chat_model(templated(epath.Path(folder), str(tmp_path / "t.jinja")))
    assert chat.template.text == template_text("plain")
    settings = templated(epath.Path(folder), "plain") / "tokenizer_config.json"
    assert "chat_template" not in json.loads(settings.read_text())


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("llama3", r"'llama3' for .* ends the reply with none of the end-of-turn tokens <\|im_end\|>; .*plain"),
        (
            "chatmll",
            "'chatmll' is neither a file nor one that ships; expected a path or one of chatml, gemma, llama3, p",
        ),
        ("broken.jinja", "does not compile"),
        ("deaf.jinja", "leaves out the text of user messages"),
    ],
)
def test_templates_that_cannot_be_used(tmp_path, monkeypatch, template, sentence):
    monkeypatch.chdir(tmp_path)
    folder = hub_files.write_tiny(tmp_path / "m")  # whose one special token is <|im_end|>
    (tmp_path / "broken.jinja").write_text("{% for %}")
    (tmp_path / "deaf.jinja").write_text(
        "{% for m in messages if m.role != 'user' %}{{ m.content }}<|im_end|>{% endfor %}"
    )
    with pytest.raises(InputError, match=sentence):
        templated(epath.Path(folder), template)
    assert not list((tmp_path / "cache").rglob("*.jinja"))


def test_import(base, tmp_path):
    """The folder opens in transformers with that template, its weights are the model's, and generation ends where the
    template's turns do."""
    (base / "generation_config.json").write_text('{"eos_token_id": 5, "top_p": 0.5}')
    out = import_model(str(base), tmp_path / "out", template="chatml")
    assert not any(path.is_symlink() for path in out.iterdir())
    tokenizer = AutoTokenizer.from_pretrained(out)
    given = [turn.model_dump() for turn in TURNS]
    assert tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True) == RENDERED["chatml"]
    ends = json.loads((out / "generation_config.json").read_text())
    assert ends["top_p"] == 0.5
    assert ends["eos_token_id"][0] == 5
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in ends["eos_token_id"]
    before, after = (load_file(folder / "model.safetensors") for folder in (base, out))
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)


def test_a_gguf_base_model(tmp_path):
    file = hub_files.write_gguf(tmp_path / "f.gguf", hub_files.TINY, {}, **{"tokenizer.chat_template": None})
    folder = source.resolve_model(str(file))
    with pytest.raises(InputError, match="no chat template"):
        read_chat_model(folder)
    _, chat = read_chat_model(templated(folder, "plain"))
    assert chat.template.render(TURNS[:2], False) == "User:\nHi\n\nAssistant:\nHo<|im_end|>\n"
