"""Calls within the process against the same calls over HTTP: one engine, equal answers, equal refusals."""

import asyncio
import dataclasses
import math

import jax
import numpy as np
import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Completion
from aloe_jax.errors import AloeError, InputError, ResumableError
from aloe_jax.models import decoder
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.interface import call_id
from aloe_jax.serve.in_process import InProcessClient
from aloe_jax.serve.local import client_of
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import Message
from data_gen.calls.call_cache import CallCache
from data_gen.calls.store import Store
from helpers.byte_model import TINY

HELLO = [Message(role="user", content="héllo")]
LONG = [Message(role="user", content="x" * 200)]
SCHEMA = {
    "type": "object",
    "properties": {"ids": {"type": "array", "items": {"enum": ["f1", "f2"]}, "maxItems": 2}},
    "required": ["ids"],
    "additionalProperties": False,
}
CALLS = [
    {"seed": 1, "max_tokens": 12},
    {"seed": 2, "max_tokens": 12, "temperature": 0.0},
    {"seed": 3, "max_tokens": 12, "n": 3, "temperature": 0.8, "top_p": 0.9},
    {"seed": 4, "max_tokens": 5, "logprobs": False, "token_ids": False},
    {"seed": 5, "max_tokens": 5, "logprobs": False},
    {"seed": 6, "max_tokens": 5, "top_logprobs": 4},
    {"seed": 7, "max_tokens": 5, "top_logprobs": 4, "logprobs": False},
    {"seed": 8, "max_tokens": 12, "choices": ["B", "A", "tie"], "top_logprobs": 20, "token_ids": False, "n": 2},
    {"seed": 2**32 - 1, "max_tokens": 40, "schema": SCHEMA, "n": 2},
    {"seed": 9, "max_tokens": 4, "schema": SCHEMA},
]
REFUSED = [
    ({"seed": 1}, LONG),
    ({"seed": 1, "max_tokens": 1000}, HELLO),
    ({"seed": 2**64, "max_tokens": 5}, HELLO),
    ({"seed": 1, "max_tokens": 5, "temperature": 3.0}, HELLO),
    ({"seed": 1, "max_tokens": 5, "schema": {"type": "odd"}}, HELLO),
]


@pytest.fixture(scope="module")
def tiny(chat_format):
    return Engine(
        TINY,
        decoder.init_params(TINY, jax.random.key(0)),
        slots=3,
        context=96,
        end_of_turn=chat_format.tokenizer.end_of_turn_ids,
        grammar=Grammar(chat_format.tokenizer),
    )


async def everything(client):
    """Answers, usage and errors of all calls, one after the other and at once."""

    async def one(how, messages=HELLO):
        try:
            return await client.respond(client.request(messages, **how))
        except AloeError as error:
            return error

    async with client:
        single = [await one(how) for how in CALLS]
        together = await asyncio.gather(*(one(how) for how in CALLS))
        refused = [await one(how, messages) for how, messages in REFUSED]
    assert_same(together, single)
    return single, refused, client.completions


def assert_same(found, expected):
    """Equal responses whose log-probabilities differ by rounding alone."""
    for one, other in zip(found, expected, strict=True):
        assert one.usage == other.usage
        for left, right in zip(one.answers, other.answers, strict=True):
            bare = {"logprobs": None, "top": None}
            assert dataclasses.replace(left, **bare) == dataclasses.replace(right, **bare)
            np.testing.assert_allclose(left.logprobs or (), right.logprobs or (), atol=5e-5)
            for here, there in zip(left.top or (), right.top or (), strict=True):
                assert [token for token, _ in here] == [token for token, _ in there]
                np.testing.assert_allclose([value for _, value in here], [value for _, value in there], atol=5e-5)


def test_answers_and_refusals_are_those_of_http(tiny, chat_format):
    with Server(tiny, chat_format, "tiny") as server:
        served, refused_there, counted_there = asyncio.run(
            everything(Client(server.base_url, "tiny", concurrency=6, retries=0))
        )
    with InProcessClient(tiny, chat_format, "tiny", concurrency=6) as client:
        here, refused_here, counted_here = asyncio.run(everything(client))
    assert_same(here, served)
    assert counted_here == counted_there
    assert counted_here.calls == 2 * len(CALLS)
    assert [len(response.answers) for response in here] == [call.get("n", 1) for call in CALLS]
    assert here[0].answers[0].tokenizer == chat_format.tokenizer.hash
    assert here[5].answers[0].top
    assert here[7].answers[0].text in ("B", "A", "tie")
    for there, error in zip(refused_there, refused_here, strict=True):
        assert isinstance(error, InputError)
        assert type(there) is type(error)
        assert str(there) == f"{server.base_url}: the server answers 400: {error}"
    assert "context of 96" in str(refused_here[0])


def test_answers_that_cannot_be_are_refused_as_over_http(engine, chat_format):
    """A log-probability that is no number, and a choice that was cut."""
    wrong = Completion((3, engine.end_of_turn), (math.nan, -1.0), "stop")
    cut = Completion((3,), (-1.0,), "length")

    async def said(client, **how):
        async with client:
            with pytest.raises(ResumableError) as caught:
                await client.chat(HELLO, seed=1, **how)
        return str(caught.value)

    with InProcessClient(engine, chat_format, "tiny", concurrency=2) as client:
        engine.reply = wrong
        assert "log-probability of nan" in asyncio.run(said(client))
        engine.reply = cut
        here = asyncio.run(said(client, choices=["first", "second"]))
    with Server(engine, chat_format, "tiny") as server:
        there = asyncio.run(said(Client(server.base_url, "tiny", retries=0), choices=["first", "second"]))
    assert here.partition(": ")[2] == there.partition("/v1: ")[2] != ""


def test_the_panel_sees_one_endpoint_in_process(engine, chat_format):
    engine.hold()

    async def run(client):
        async with client:
            calls = [asyncio.create_task(client.chat(HELLO, seed=seed, affinity="a")) for seed in range(5)]
            while client.endpoints[0].limit.under_way < 2:
                await asyncio.sleep(0)
            [endpoint] = client.endpoints
            seen = (endpoint.address, endpoint.model, endpoint.limit.under_way, int(endpoint.limit.value))
            waiting = client.waiting
            engine.release()
            await asyncio.gather(*calls)
            return seen, waiting, (endpoint.answered, endpoint.limit.under_way, endpoint.retries, endpoint.down)

    with InProcessClient(engine, chat_format, "tiny", concurrency=2) as client:
        seen, waiting, after = asyncio.run(run(client))
    assert seen == ("in process", "tiny", 2, 2)
    assert waiting == 3
    assert after == (5, 0, 0, False)


def test_a_cancelled_call_is_cancelled_in_the_engine(engine, chat_format):
    engine.hold()

    async def run(client):
        async with client:
            call = asyncio.create_task(client.chat(HELLO, seed=1))
            while engine.submitted.empty():
                await asyncio.sleep(0.001)
            call.cancel()
            await asyncio.wait([call])

    with InProcessClient(engine, chat_format, "tiny", concurrency=2) as client:
        asyncio.run(run(client))
        assert engine.cancelled.get(timeout=10) == 1
    assert client.endpoints[0].limit.under_way == 0


def test_a_failing_engine_ends_the_block_with_its_reason(engine, chat_format):
    engine.broken = True
    closed = []
    engine.close = lambda: closed.append(True)
    engine.slots = 2

    async def calls(client):
        async with client, asyncio.TaskGroup() as tasks:
            for seed in range(3):
                tasks.create_task(client.chat(HELLO, seed=seed))

    def block():
        with client_of(engine, chat_format, "base") as client:
            assert client.endpoints[0].limit.most == 4
            asyncio.run(calls(client))

    with pytest.raises(AloeError, match="the decoding engine failed: the device is lost") as caught:
        block()
    assert caught.value.exit_code == 1
    assert closed


def test_a_client_whose_block_has_ended_says_so(engine, chat_format):
    with InProcessClient(engine, chat_format, "tiny", concurrency=2) as client:
        pass
    with pytest.raises(ResumableError, match="stopping"):
        asyncio.run(client.chat(HELLO, seed=1))


def test_the_model_is_part_of_a_calls_id(engine, chat_format, tmp_path):
    """The name "base" stays while `config.model.source` changes: stored answers of another model are not replayed."""

    async def ask(identity, store):
        with InProcessClient(engine, chat_format, "base", concurrency=2, identity=identity) as client:
            async with client:
                cache = CallCache(client, store, "user", "")
                await cache.chat(HELLO, seed=1, max_tokens=4)
            return cache.usage.calls, client.model

    with Store(tmp_path) as store:
        asked = [asyncio.run(ask(identity, store)) for identity in ("one", "one", "other", "")]
    assert asked == [(1, "base"), (0, "base"), (1, "base"), (1, "base")]


def test_ids_of_calls_of_servers_are_unchanged():
    """Fixed since the first release: runs replay what they have paid for."""
    request = Client("http://localhost/v1", "m").request(HELLO, seed=1)
    assert call_id(request) == "685c383c663e48329050552edf75ba5001070f50dbf9f2e0f6baf4024813b960"


def test_thoughts_that_the_prompt_began_and_the_limit_cut_off_are_no_reply(tiny, chat_format):
    """They were taken for the reply (EleutherAI/lm-evaluation-harness#3382, allenai/olmo-eval#399)."""
    template = chat_format.template
    text = template.text.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    opened = dataclasses.replace(chat_format, template=dataclasses.replace(template, text=text))

    async def answers(client):
        free = await client.chat(HELLO, seed=1, max_tokens=4)
        return *free, *await client.chat(HELLO, seed=1, max_tokens=4, choices=["4", "5"])

    with InProcessClient(tiny, opened, "tiny", concurrency=2) as client:
        thought, choice = asyncio.run(answers(client))
    assert (thought.text, thought.truncated, thought.token_ids) == ("", True, None)
    assert thought.thought
    assert (choice.text in ("4", "5"), choice.thought) == (True, None)
    with InProcessClient(tiny, chat_format, "tiny", concurrency=2) as client:
        reply, _ = asyncio.run(answers(client))
    assert (bool(reply.text), reply.truncated, reply.thought) == (True, True, None)
