"""The client against our own server and plain ones: answers, call ids, the key, how many calls are under way."""

import asyncio
import dataclasses
import logging

import pytest
from aiohttp import web

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import endpoint
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import Message
from helpers.scripted_server import GOOD, HELLO, Pauses, Script, talk

KEY = "sk-open-sesame"


@pytest.fixture(autouse=True)
def no_breaker(monkeypatch):
    """Servers here may fail as often as they like before they count as down."""
    monkeypatch.setattr(endpoint, "BREAK_AFTER", 1000)


def test_answers_of_our_server_carry_ids_logprobs_and_hash(engine, chat_format):
    async def run(url):
        async with Client(url, "tiny") as client:
            first = await client.chat(HELLO, seed=1, n=2, temperature=0.8, max_tokens=5)
            again = await client.chat(HELLO, seed=1, n=2, temperature=0.8, max_tokens=5)
            bare = await client.chat(HELLO, seed=1, logprobs=False, token_ids=False)
        return first, again, bare, client.completions

    with Server(engine, chat_format, "tiny") as server:
        first, again, bare, completions = asyncio.run(run(server.base_url))
    assert first == again
    assert [reply.text for reply in first] == [chat_format.tokenizer.decode(reply.token_ids) for reply in first]
    for reply in first:
        assert reply.finish_reason == "length"
        assert len(reply.token_ids) == len(reply.logprobs) == 5
        assert reply.tokenizer == chat_format.tokenizer.hash
    assert (bare[0].token_ids, bare[0].logprobs, bare[0].tokenizer) == (None, None, None)
    assert bare[0].finish_reason == "stop"
    prompt = len(chat_format.prompt_ids(HELLO))
    assert dataclasses.asdict(completions) == {
        "calls": 3,
        "tokens_in": 3 * prompt,
        "tokens_out": 5 + 5 + 5 + 5 + 13,
        "retries": 0,
    }


def test_refusals_of_our_server_are_input_errors(engine, chat_format):
    async def run(url, model, messages):
        async with Client(url, model) as client:
            await client.chat(messages, seed=1)

    with Server(engine, chat_format, "tiny") as server:
        with pytest.raises(InputError, match="'other' is not served here"):
            asyncio.run(run(server.base_url, "other", HELLO))
        with pytest.raises(InputError, match="context of 400"):
            asyncio.run(run(server.base_url, "tiny", [Message(role="user", content="x" * 500)]))


def test_plain_server_without_extensions_gives_none():
    (reply,), client = talk(Script(GOOD))
    assert (reply.text, reply.finish_reason) == ("hi", "stop")
    assert (reply.token_ids, reply.logprobs, reply.tokenizer) == (None, None, None)
    assert (client.completions.tokens_in, client.completions.tokens_out) == (7, 2)


def test_choices_come_in_the_order_of_their_index():
    choices = [{"index": index, "message": {"content": str(index)}} for index in (1, 0)]
    replies, _ = talk(Script({"choices": choices}), n=2)
    assert [reply.text for reply in replies] == ["0", "1"]


def test_logprobs_that_do_not_match_the_ids_are_left_out():
    choice = {"message": {"content": "a"}, "token_ids": [1, 2], "logprobs": {"content": [{"logprob": -1.0}]}}
    (reply,), _ = talk(Script({"choices": [choice]}))
    assert (reply.token_ids, reply.logprobs) == ((1, 2), None)


def test_call_id_is_the_content_of_the_request():
    def call(messages=HELLO, **arguments):
        (reply, *_), _ = talk(Script({"choices": GOOD["choices"] * arguments.get("n", 1)}), messages, **arguments)
        return reply.call

    assert call() == call()
    changed = [
        call([Message(role="user", content="bye")]),
        call([Message(role="system", content="hello")]),
        call(n=2),
        call(temperature=0.5),
        call(max_tokens=3),
    ]
    assert len({call(), *changed}) == 6


def test_call_id_does_not_depend_on_the_key(monkeypatch):
    (without,), _ = talk(Script(GOOD))
    monkeypatch.setenv("ALOE_API_KEY", KEY)
    (with_key,), _ = talk(Script(GOOD))
    assert without.call == with_key.call


def test_key_is_sent_and_shown_nowhere(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    settings = {"api_key_env": "MY_KEY", "retries": 1}

    async def echo(request):
        return web.json_response(
            {"error": {"message": f"wrong key: {request.headers['Authorization']}"}}, status=status
        )

    script = Script(GOOD)
    _, client = talk(script, client=settings)
    assert script.headers[0]["Authorization"] == f"Bearer {KEY}"
    shown = [repr(client), str(vars(client))]
    for status, kind in ((401, InputError), (400, InputError), (500, ResumableError)):  # noqa: B007 - echo reads it
        with pytest.raises(kind, match=r"wrong key: Bearer \[redacted\]") as caught:
            talk(Script(echo), client=settings)
        error = caught.value
        while error is not None:
            shown.append(repr(error))
            error = error.__cause__ or error.__context__
    with pytest.raises(InputError, match="MY_KEY"):
        talk(Script(401), client=settings)
    assert not [text for text in [*shown, caplog.text] if KEY in text]


def test_without_a_key_no_header_is_sent():
    script = Script(GOOD)
    talk(script)
    assert "Authorization" not in script.headers[0]


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://me:sesame@host/v1", "http://h/v1?key=sesame", "a b"],
)
def test_base_url_must_be_a_plain_address(url):
    with pytest.raises(InputError, match="base_url") as caught:
        Client(url, "tiny")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("concurrency", 0), ("retries", -1)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}"):
        Client("http://127.0.0.1:1/v1", "tiny", **{name: value})


def test_no_more_calls_are_under_way_than_allowed():
    open_now, most = 0, 0

    async def run():
        full = asyncio.Event()

        async def crowded(request):
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            if open_now == 3:
                full.set()
            await full.wait()  # the first three wait for each other: the bound is reached, not just kept
            open_now -= 1
            return web.json_response(GOOD)

        async with (
            Script(crowded).serving() as url,
            Client(url, "tiny", concurrency=3, timing=Pauses().timing()) as client,
        ):
            await asyncio.gather(*(client.chat(HELLO, seed=seed) for seed in range(10)))
            return client.completions.calls

    assert asyncio.run(run()) == 10
    assert most == 3


def test_call_that_pauses_keeps_its_place():
    script = Script(500, GOOD)

    async def others_turn():
        for _ in range(50):  # turns of the event loop in which a second call would be sent, had it a place
            await asyncio.sleep(0)

    async def run():
        timing = Pauses().timing(meanwhile=others_turn)
        async with script.serving() as url, Client(url, "tiny", concurrency=1, timing=timing) as client:
            await asyncio.gather(*(client.chat(HELLO, seed=seed) for seed in (1, 2)))

    asyncio.run(run())
    assert [body["seed"] for body in script.bodies] == [1, 1, 2]
