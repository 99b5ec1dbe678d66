"""The client against servers that fail in every way a server can."""

import asyncio
import contextlib
import email.utils

import pytest
from aiohttp import web

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import endpoint
from aloe_jax.serve.client.client import LONGEST_PAUSE, Client, Timing
from helpers.scripted_server import GOOD, HELLO, Pauses, Script, answer, talk


@pytest.fixture(autouse=True)
def no_breaker(monkeypatch):
    """Servers here may fail as often as they like before they count as down."""
    monkeypatch.setattr(endpoint, "BREAK_AFTER", 1000)


def test_a_passing_failure_is_waited_out_with_growing_pauses():
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

    timing = Timing(sleep=sleep, jitter=lambda low, high: low + (high - low) / 4)
    talk(Script(500, 500, GOOD), client={"timing": timing})
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
                client = Client(url, "tiny", timing=Pauses().timing(meanwhile=revive))
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
        async with Client(url, "tiny", retries=2, timing=Pauses().timing()) as client:
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
