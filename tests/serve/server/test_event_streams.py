"""Streamed chat completions: chunks that together are the whole answer, and streams that end before it."""

import http.client
import json
import socket

import openai
import pytest

from aloe_jax.decode.requests import Completion, Delta

HELLO = [{"role": "user", "content": "hello"}]
WAIT = 10  # seconds until a test gives up on another thread


def scripted(engine, chat_format, text):
    """Let every reply be this text; the engine streams it in two halves."""
    ids = chat_format.tokenizer.encode(text)
    engine.reply = Completion((*ids, engine.end_of_turn), (-1.0,) * (len(ids) + 1), "stop")
    return [*ids, engine.end_of_turn]


def events(server, body):
    """The data of the events that answer a streamed request, as text."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT)
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": "tiny", "stream": True, **body}))
    reply = connection.getresponse()
    assert reply.getheader("content-type").startswith("text/event-stream")
    parts = reply.read().decode().split("\n\n")
    connection.close()
    assert parts.pop() == ""
    return [part.removeprefix("data: ") for part in parts]


def test_chunks_are_the_role_the_reply_in_parts_and_the_usage(sdk):
    asked = {"model": "tiny", "messages": HELLO, "seed": 5, "n": 2}
    whole = sdk.chat.completions.create(**asked)
    options = {"include_usage": True, "continuous_usage_stats": False}
    *chunks, last = sdk.chat.completions.create(**asked, stream=True, stream_options=options)
    assert last.choices == []
    assert last.usage == whole.usage
    assert {chunk.usage for chunk in chunks} == {None}
    for index, choice in enumerate(whole.choices):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert [part.delta.role for part in own] == ["assistant", None, None]
        assert "".join(part.delta.content for part in own) == choice.message.content
        assert all(part.delta.content for part in own[1:])
        assert [part.finish_reason for part in own] == [None, None, "stop"]


def test_usage_is_left_out_or_in_every_chunk_as_asked(server):
    *chunks, done = events(server, {"messages": HELLO})
    assert done == "[DONE]"
    assert all("usage" not in json.loads(chunk) for chunk in chunks)
    *chunks, done = events(server, {"messages": HELLO, "stream_options": {"continuous_usage_stats": True}})
    sampled = [json.loads(chunk)["usage"]["completion_tokens"] for chunk in chunks]
    assert sampled == sorted(sampled)
    assert (sampled[0], sampled[-1]) == (0, 13)


def test_character_of_two_tokens_comes_whole(server, engine, chat_format):
    """Five tokens, one per byte of `aé` and `é` again, and the end of turn: the halves are a C3 and A9 C3 A9 end."""
    ids = scripted(engine, chat_format, "aéé")
    assert len(ids) == 6
    chunks = [json.loads(chunk) for chunk in events(server, {"messages": HELLO, "logprobs": True})[:-1]]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", "aé", "é"]
    listed = [token for chunk in chunks[1:] for token in chunk["choices"][0]["logprobs"]["content"]]
    assert len(listed) == 6


def test_stop_string_across_two_parts_is_not_shown(server, engine, chat_format):
    scripted(engine, chat_format, "one STOP two")  # the halves are "one ST" and "OP two"
    *chunks, done = events(server, {"messages": HELLO, "stop": ["STOP", "never"]})
    assert done == "[DONE]"
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["delta"]["content"] for choice in choices] == ["", "one ", ""]
    assert (choices[-1]["finish_reason"], choices[-1]["stop_reason"]) == ("stop", "STOP")


def test_whole_reply_ends_at_the_stop_string_too(sdk, engine, chat_format):
    scripted(engine, chat_format, "one STOP two")
    for more, text in (({}, "one "), ({"include_stop_str_in_output": True}, "one STOP")):
        reply = sdk.chat.completions.create(model="tiny", messages=HELLO, stop="STOP", extra_body=more)
        assert reply.choices[0].message.content == text
        assert reply.choices[0].finish_reason == "stop"
        assert reply.choices[0].stop_reason == "STOP"


def test_token_ids_come_in_the_chunks_and_the_prompts_in_the_first(server, engine, chat_format):
    ids = scripted(engine, chat_format, "four")
    chunks = [json.loads(chunk) for chunk in events(server, {"messages": HELLO, "return_token_ids": True})[:-1]]
    assert [token for chunk in chunks for token in chunk["choices"][0]["token_ids"] or ()] == ids
    prompt = engine.submitted.get(timeout=WAIT).prompt
    assert [chunk["prompt_token_ids"] for chunk in chunks] == [list(prompt), None, None]
    assert chunks[0]["tokenizer_hash"] == chat_format.tokenizer.hash


def test_request_that_the_engine_refuses_gets_a_status_and_no_stream(sdk, engine):
    engine.longest_prompt = 10
    with pytest.raises(openai.BadRequestError, match="the engine refuses this prompt"):
        sdk.chat.completions.create(model="tiny", messages=HELLO, stream=True)


def failing_step(engine):
    """A `step` that draws one token for each request, and fails when it is called again."""

    def step():
        if engine.failing:
            raise RuntimeError("the device is lost")
        engine.failing = True
        engine._deltas += [(ticket, Delta(0, (70,), (-1.0,))) for ticket in engine._waiting]
        return []

    engine.failing = False
    return step


def test_failure_in_the_middle_is_the_last_event(server, sdk, engine):
    engine.step = failing_step(engine)
    *chunks, last = events(server, {"messages": HELLO})
    assert len(chunks) == 2
    error = json.loads(last)["error"]
    assert error["type"] == "server_error"
    assert "failed" in error["message"]


def test_official_client_raises_the_failure(sdk, engine):
    engine.step = failing_step(engine)
    with pytest.raises(openai.APIError, match="decoding engine failed"):
        list(sdk.chat.completions.create(model="tiny", messages=HELLO, stream=True))


def test_client_that_leaves_a_stream_cancels_its_request(server, engine):
    engine.hold()
    body = json.dumps({"model": "tiny", "messages": HELLO, "stream": True}).encode()

    def step():  # a token at a time, without end
        if not engine.cancelled.empty():
            return []
        engine._deltas += [(ticket, Delta(0, (70,), (-1.0,))) for ticket in engine._waiting]
        engine._released.wait(0.01)
        return []

    engine.step = step
    with socket.create_connection((server.host, server.port), timeout=WAIT) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert b"200 OK" in connection.recv(1000)
    assert engine.cancelled.get(timeout=WAIT) == 1
