"""From the fields of a request to token ids."""

import dataclasses
import json

import pytest
import tokenizers
from tokenizers import processors

from aloe_jax.serve.prompts import chat_prompt, echoed, messages_ids, text_prompts
from aloe_jax.serve.protocol.chat import ChatRequest
from aloe_jax.serve.protocol.completions import CompletionRequest
from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.serve.worker import Worker
from aloe_jax.tree.template import ChatFormat

HELLO = [{"role": "user", "content": "hello"}]


def served(engine, chat_format):
    return ServedModel("tiny", Worker(engine), chat_format)


def shown(model, ids):
    return model.chat_format.tokenizer.decode(ids, skip_special=False)


def test_variables_reach_the_template_of_their_request_alone(engine, chat_format):
    text = chat_format.template.text + "{% if tone is defined %}({{ tone }}) {% endif %}"
    template = dataclasses.replace(chat_format.template, text=text)
    model = served(engine, dataclasses.replace(chat_format, template=template))

    def prompt(**kwargs):
        return shown(model, chat_prompt(model, ChatRequest(model="tiny", messages=HELLO, chat_template_kwargs=kwargs)))

    plain = "<|start|>user\nhello<|end|><|start|>assistant\n"
    assert [prompt(), prompt(tone="warm"), prompt(tone="dry"), prompt()] == [
        plain,
        f"{plain}(warm) ",
        f"{plain}(dry) ",
        plain,
    ]
    assert model.with_variables({"tone": "warm"}) is model.with_variables({"tone": "warm"})


def test_continued_reply_is_the_trained_prompt_and_its_text(engine, chat_format):
    model = served(engine, chat_format)
    begun = [*HELLO, {"role": "assistant", "content": "Hi <|end|>"}]
    asked = ChatRequest(model="tiny", messages=begun, continue_final_message=True)
    ids = chat_prompt(model, asked)
    assert shown(model, ids) == "<|start|>user\nhello<|end|><|start|>assistant\nHi <|end|>"
    assert ids[: -len("Hi <|end|>")] == chat_format.prompt_ids(asked.messages[:1])
    assert ids.count(*chat_format.tokenizer.end_of_turn_ids) == 1  # what the reply says about a token is text


def test_conversation_that_the_template_refuses_names_the_messages(engine, chat_format):
    text = "{{ raise_exception('no systems') if messages[0].role == 'system' }}" + chat_format.template.text
    template = dataclasses.replace(chat_format.template, text=text)
    model = served(engine, dataclasses.replace(chat_format, template=template))
    asked = ChatRequest(model="tiny", messages=[{"role": "developer", "content": "x"}, *HELLO])
    with pytest.raises(ApiError, match="no systems") as caught:
        messages_ids(model, asked)
    assert caught.value.body["error"]["param"] == "messages"


@pytest.fixture
def beginning(chat_format, tmp_path):
    """The chat format with a tokenizer that puts <|start|> before every text."""
    backend = tokenizers.Tokenizer.from_str(chat_format.tokenizer.definition)
    start = ("<|start|>", backend.token_to_id("<|start|>"))
    backend.post_processor = processors.TemplateProcessing(single="<|start|> $A", special_tokens=[start])
    backend.save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": "<|end|>", "chat_template": chat_format.template.text}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return ChatFormat.load(tmp_path)


def test_text_gets_the_tokenizers_own_beginning_unless_told_otherwise(engine, beginning):
    model = served(engine, beginning)

    def ids(**fields):
        return text_prompts(model, CompletionRequest(model="tiny", **fields))

    [plain] = ids(prompt="hé", add_special_tokens=False)
    [start] = [token for token, text in beginning.tokenizer.special_tokens.items() if text == "<|start|>"]
    assert ids(prompt=["hé", ""]) == [[start, *plain], [start]]
    assert ids(prompt=plain) == [plain]
    assert echoed(beginning.tokenizer, "hé", [start, *plain]) == ("hé", [0, 0, 1, 1])
    assert echoed(beginning.tokenizer, plain, plain) == ("hé", [0, 1, 1])
    assert echoed(beginning.tokenizer, [start, *plain], [start, *plain]) == ("<|start|>hé", [0, 9, 10, 10])
    with pytest.raises(ApiError, match="no tokens"):
        ids(prompt="", add_special_tokens=False)
