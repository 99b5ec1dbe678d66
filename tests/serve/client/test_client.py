"""The client against our own server, and against servers that fail in every way a server can."""

import asyncio
import contextlib
import dataclasses
import email.utils
import logging

import pytest
from aiohttp import web

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import endpoint
from aloe_jax.serve.client.client import LONGEST_PAUSE, Client, Clock
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.schema import Message

HELLO = [Message(role="user", content="hello")]
KEY = "sk-open-sesame"
GOOD = {"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


@pytest.fixture(autouse=True)
def no_breaker(monkeypatch):
    """Servers here may fail as often as they like before they count as down."""
    monkeypatch.setattr(endpoint, "BREAK_AFTER", 1000)


class Pauses(list):
    """A clock that records pauses instead of waiting; jitter takes the upper end, so that pauses are known."""

    def clock(self, meanwhile=None):
        async def sleep(seconds):
            self.append(seconds)
            if meanwhile is not None:
                await meanwhile()

        return Clock(sleep=sleep, now=lambda: 1_000_000.0 + sum(self), jitter=lambda low, high: high)


class Script:
    """A server that plays one step a request: a status, a response maker, or None to drop the connection. The last step
    repeats."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.bodies = []
        self.headers = []
        self.port = 0

    async def _handle(self, request):
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if step is None:
            request.transport.abort()
            return web.Response()
        if isinstance(step, dict):
            return web.json_response(step)
        if isinstance(step, int):
            return web.json_response({"error": {"message": f"scripted {step}"}}, status=step)
        return await step(request)

    @contextlib.asynccontextmanager
    async def serving(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._handle)
        # Handlers that never answer must not delay the end of the test.
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]
        try:
            yield f"http://127.0.0.1:{self.port}/v1"
        finally:
            await runner.cleanup()


def answer(status, headers=None, text="{}"):
    async def respond(request):
        return web.Response(status=status, headers=headers, text=text)

    return respond


def talk(script, messages=HELLO, *, pauses=None, calls=1, client=None, **arguments):
    """Answers and client after `calls` calls one after the other against the script."""

    async def run():
        async with script.serving() as url:
            settings = {"clock": (pauses if pauses is not None else Pauses()).clock(), **(client or {})}
            async with Client(url, "tiny", **settings) as connection:
                answers = [await connection.chat(messages, seed=1, **arguments) for _ in range(calls)]
            return answers[-1], connection

    return asyncio.run(run())


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


def test_passing_trouble_is_waited_out_with_growing_pauses():
    pauses = Pauses()
    script = Script(
        500,
        None,
        answer(200, text='{"choices": [{"mess'),
        429,
        answer(200, text="not json"),
        answer(200, text="{}"),
        GOOD,
    )
    (reply,), client = talk(script, pauses=pauses)
    assert reply.text == "hi"
    assert pauses == [1, 2, 4, 8, 16, 32]
    assert client.completions.retries == 6
    assert client.completions.calls == 1
    assert all(body == script.bodies[0] for body in script.bodies)


def test_pauses_stop_growing():
    pauses = Pauses()
    talk(Script(*[503] * 9, GOOD), pauses=pauses, client={"retries": 9})
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


def test_pause_is_drawn_between_zero_and_its_limit():
    drawn = []

    async def sleep(seconds):
        drawn.append(seconds)

    clock = Clock(sleep=sleep, jitter=lambda low, high: low + (high - low) / 4)
    talk(Script(500, 500, GOOD), client={"clock": clock})
    assert drawn == [0.25, 0.5]


@pytest.mark.parametrize(
    ("value", "pause"),
    [("17", 17), ("0.2", 1), (email.utils.formatdate(1_000_030.0, usegmt=True), 30), ("soon", 1), ("Never, 99", 1)],
)
def test_retry_after_is_honoured(value, pause):
    pauses = Pauses()
    talk(Script(answer(429, {"Retry-After": value}), GOOD), pauses=pauses)
    assert sum(pauses) == pause


def test_very_long_retry_after_ends_the_run_instead():
    pauses = Pauses()
    with pytest.raises(ResumableError, match="3600 seconds"):
        talk(Script(answer(429, {"Retry-After": "3600"})), pauses=pauses)
    assert pauses == []


def test_server_that_dies_and_returns_is_survived():
    script = Script(GOOD)

    async def run():
        revived = contextlib.AsyncExitStack()

        async def revive():
            await revived.enter_async_context(script.serving())  # on the port it had

        async with revived:
            async with script.serving() as url:
                client = Client(url, "tiny", clock=Pauses().clock(meanwhile=revive))
            async with client:
                (reply,) = await client.chat(HELLO, seed=1)
            return reply, client

    reply, client = asyncio.run(run())
    assert reply.text == "hi"
    assert client.completions.retries == 1


def test_server_that_is_gone_ends_in_a_resumable_error():
    async def run():
        async with Script(GOOD).serving() as url:
            pass
        async with Client(url, "tiny", retries=2, clock=Pauses().clock()) as client:
            try:
                await client.chat(HELLO, seed=1)
            except ResumableError as error:
                return url, error, client.completions

    url, error, completions = asyncio.run(run())
    assert error.exit_code == 75
    assert str(error).startswith(f"{url}: the server cannot be reached")
    assert "3 attempts" in str(error)
    assert (completions.calls, completions.retries) == (0, 2)


def test_slow_server_is_given_up_after_the_timeout():
    async def never(request):
        await asyncio.Event().wait()

    with pytest.raises(ResumableError, match=r"no answer within 0\.05 seconds"):
        talk(Script(never), client={"timeout": 0.05, "retries": 1})


def test_torn_body_is_tried_again():
    async def torn(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        request.transport.abort()
        return response

    (reply,), client = talk(Script(torn, GOOD))
    assert reply.text == "hi"
    assert client.completions.retries == 1


def test_wrong_number_of_choices_is_tried_again_then_an_input_error():
    two = {"choices": GOOD["choices"] * 2}
    replies, client = talk(Script(GOOD, two), n=2)
    assert len(replies) == 2
    assert client.completions.retries == 1
    with pytest.raises(InputError, match="1 choices where n=2 were asked"):
        talk(Script(GOOD), n=2)


@pytest.mark.parametrize("status", [400, 404, 413, 422, 301])
def test_refusal_is_an_input_error_with_the_servers_words(status):
    script = Script(status)
    with pytest.raises(InputError, match=f"answers {status}: scripted {status}"):
        talk(script)
    assert len(script.bodies) == 1


def test_refusal_in_another_shape_is_shown_in_part():
    with pytest.raises(InputError, match="answers 400: <html> no"):
        talk(Script(answer(400, text="<html>\n no " + "x" * 9000)))
    with pytest.raises(InputError, match="answers 400: plain words"):
        talk(Script(answer(400, text='{"error": {"message": "plain words"}}')))


def test_server_that_refuses_an_extension_is_asked_without_it_from_then_on():
    refusal = answer(400, text='{"error": {"message": "Unrecognized request argument: return_token_ids"}}')
    script = Script(refusal, GOOD)
    (reply,), client = talk(script, calls=2)
    assert reply.token_ids is None
    assert ["return_token_ids" in body for body in script.bodies] == [True, False, False]
    assert all(body["logprobs"] for body in script.bodies)
    assert client.completions.retries == 0


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
            Client(url, "tiny", concurrency=3, clock=Pauses().clock()) as client,
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
        clock = Pauses().clock(meanwhile=others_turn)
        async with script.serving() as url, Client(url, "tiny", concurrency=1, clock=clock) as client:
            await asyncio.gather(*(client.chat(HELLO, seed=seed) for seed in (1, 2)))

    asyncio.run(run())
    assert [body["seed"] for body in script.bodies] == [1, 1, 2]
