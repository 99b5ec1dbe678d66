"""The server on loopback, spoken to by the official OpenAI client."""

import http.client
import json
import os
import signal
import socket
import threading

import openai
import pytest

from aloe_jax.decode.requests import Completion
from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.served_model import Loaded
from aloe_jax.serve.server.server import Server, serve_forever
from aloe_jax.serve.server.settings import ServerSettings

HELLO = [{"role": "user", "content": "hello"}]
WAIT = 10  # seconds until a test gives up on another thread


def post(server, body, headers=None):
    """Status and JSON of a raw request."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT)
    connection.request("POST", "/v1/chat/completions", body, headers or {})
    reply = connection.getresponse()
    answer = reply.status, json.loads(reply.read())
    connection.close()
    return answer


def test_completion_has_text_ids_logprobs_and_usage(sdk, engine, chat_format):
    reply = sdk.chat.completions.create(
        model="tiny",
        messages=HELLO,
        n=2,
        seed=3,
        temperature=0.7,
        top_p=0.9,
        max_tokens=40,
        logprobs=True,
        extra_body={"return_token_ids": True, "top_k": 5},
    )
    request = engine.submitted.get(timeout=WAIT)
    assert chat_format.tokenizer.decode(request.prompt, skip_special=False) == (
        "<|start|>user\nhello<|end|><|start|>assistant\n"
    )
    assert (request.seed, request.n) == (3, 2)
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.7, 0.9, 5, 40)

    assert [choice.index for choice in reply.choices] == [0, 1]
    assert reply.choices[0].message.content != reply.choices[1].message.content
    assert reply.prompt_token_ids == list(request.prompt)
    assert reply.tokenizer_hash == chat_format.tokenizer.hash
    for choice in reply.choices:
        assert choice.finish_reason == "stop"
        assert choice.token_ids[-1] == engine.end_of_turn
        assert choice.message.content == chat_format.tokenizer.decode(choice.token_ids[:-1])
        assert [token.token for token in choice.logprobs.content][-1] == "<|end|>"
        assert len(choice.logprobs.content) == len(choice.token_ids) == 13
        assert all(-1 <= token.logprob <= 0 for token in choice.logprobs.content)
    prompt = len(request.prompt)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (
        prompt,
        26,
        prompt + 26,
    )


def test_extras_come_only_when_asked_for(sdk):
    reply = sdk.chat.completions.create(model="tiny", messages=HELLO)
    assert reply.choices[0].logprobs is None
    assert reply.choices[0].token_ids is None
    assert reply.prompt_token_ids is None


def test_reply_cut_by_its_limit_says_so_and_keeps_its_last_token(sdk, chat_format):
    reply = sdk.chat.completions.create(
        model="tiny", messages=HELLO, max_completion_tokens=4, extra_body={"return_token_ids": True}
    )
    (choice,) = reply.choices
    assert choice.finish_reason == "length"
    assert len(choice.token_ids) == 4
    assert choice.message.content == chat_format.tokenizer.decode(choice.token_ids)


def test_without_a_limit_the_reply_may_fill_the_context(sdk, engine):
    sdk.chat.completions.create(model="tiny", messages=HELLO)
    request = engine.submitted.get(timeout=WAIT)
    assert len(request.prompt) + request.sampling.max_tokens == engine.context


def test_seed_repeats_and_another_seed_differs(sdk):
    def text(seed):
        reply = sdk.chat.completions.create(model="tiny", messages=HELLO, seed=seed)
        return reply.choices[0].message.content

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_without_a_seed_replies_differ(sdk, engine):
    for _ in range(2):
        sdk.chat.completions.create(model="tiny", messages=HELLO)
    assert engine.submitted.get(timeout=WAIT).seed != engine.submitted.get(timeout=WAIT).seed


def test_system_message_text_parts_and_returned_assistant_message(sdk, engine, chat_format):
    first = sdk.chat.completions.create(model="tiny", messages=HELLO)
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        first.choices[0].message.model_dump(),
        {"role": "user", "content": "three"},
    ]
    sdk.chat.completions.create(model="tiny", messages=messages)
    engine.submitted.get(timeout=WAIT)
    prompt = chat_format.tokenizer.decode(engine.submitted.get(timeout=WAIT).prompt, skip_special=False)
    assert prompt.startswith("<|start|>system\nbe kind<|end|><|start|>user\nonetwo<|end|><|start|>assistant\n")
    assert first.choices[0].message.content in prompt


def test_token_that_is_a_piece_of_a_character_has_no_bytes(server, engine, chat_format):
    # Token ids are the positions of the byte alphabet; the two bytes of one letter are two tokens.
    ids = chat_format.tokenizer.encode("aé")
    assert len(ids) == 3
    engine.reply = Completion((*ids, engine.end_of_turn), (-1.0,) * 4, "stop")
    _, reply = post(server, json.dumps({"model": "tiny", "messages": HELLO, "logprobs": True}))
    assert reply["choices"][0]["message"]["content"] == "aé"
    content = reply["choices"][0]["logprobs"]["content"]
    assert [token["bytes"] for token in content] == [[97], None, None, list(b"<|end|>")]


def test_models_list_names_context_and_tokenizer(sdk, engine, chat_format):
    (card,) = sdk.models.list().data
    assert card.id == "tiny"
    assert card.max_model_len == engine.context
    assert card.tokenizer_hash == chat_format.tokenizer.hash
    assert sdk.models.retrieve("tiny") == card
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("other")


def test_unknown_model_is_not_found(sdk):
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="other", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert "'other'" in str(caught.value)
    assert "'tiny'" in str(caught.value)


def test_what_cannot_be_honoured_is_refused_by_name(sdk):
    with pytest.raises(openai.BadRequestError, match="'reasoning_effort'") as caught:
        sdk.chat.completions.create(model="tiny", messages=HELLO, reasoning_effort="high")
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == "reasoning_effort"


def test_neutral_and_harmless_fields_pass(sdk):
    reply = sdk.chat.completions.create(
        model="tiny",
        messages=HELLO,
        frequency_penalty=0,
        presence_penalty=0.0,
        response_format={"type": "text"},
        stop=[],
        tools=[],
        top_logprobs=0,
        user="someone",
        store=False,
        seed=None,
    )
    assert reply.choices[0].finish_reason == "stop"


def test_prompt_beyond_the_context_is_refused(sdk, engine):
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 500}])
    assert caught.value.code == "context_length_exceeded"
    assert str(engine.context) in str(caught.value)
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        sdk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=engine.context)


def test_refusal_by_the_engine_reaches_its_sender_alone(sdk, engine):
    engine.longest_prompt = 100
    with pytest.raises(openai.BadRequestError, match="the engine refuses this prompt"):
        sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 100}])
    assert sdk.chat.completions.create(model="tiny", messages=HELLO).choices


def test_large_body_is_refused(server):
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x" * (8 * 2**20)}]})
    status, reply = post(server, body)
    assert status == 413
    assert str(8 * 2**20) in reply["error"]["message"]


def test_unknown_path_and_method_have_openai_shaped_errors(server):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT)
    for path, status in (("/v1/nothing", 404), ("/v1/chat/completions", 405)):
        connection.request("GET", path)
        reply = connection.getresponse()
        assert reply.status == status
        assert path in json.loads(reply.read())["error"]["message"]
    connection.close()


def test_key_is_asked_for_where_one_is_set(engine, chat_format, monkeypatch):
    monkeypatch.setenv("ALOE_API_KEY", "open-sesame")
    with Server(engine, chat_format, "tiny") as server:
        with openai.OpenAI(base_url=server.base_url, api_key="wrong", max_retries=0) as sdk:
            with pytest.raises(openai.AuthenticationError) as caught:
                sdk.chat.completions.create(model="tiny", messages=HELLO)
            with pytest.raises(openai.AuthenticationError):
                sdk.models.list()
        assert "open-sesame" not in str(caught.value)
        with openai.OpenAI(base_url=server.base_url, api_key="open-sesame", max_retries=0) as sdk:
            assert sdk.chat.completions.create(model="tiny", messages=HELLO).choices


def test_client_that_goes_away_cancels_its_request(server, engine):
    engine.hold()
    body = json.dumps({"model": "tiny", "messages": HELLO}).encode()
    with socket.create_connection((server.host, server.port), timeout=WAIT) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        engine.submitted.get(timeout=WAIT)
    assert engine.cancelled.get(timeout=WAIT) == 1
    engine.release()
    status, _ = post(server, body)
    assert status == 200


def test_one_thread_owns_the_engine(server, engine):
    body = json.dumps({"model": "tiny", "messages": HELLO})
    statuses = []
    callers = [threading.Thread(target=lambda: statuses.append(post(server, body)[0])) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=WAIT)
    assert statuses == [200] * 8
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


def test_stop_lets_a_running_request_finish(engine, chat_format):
    engine.hold()
    server = Server(engine, chat_format, "tiny", settings=ServerSettings(drain_seconds=WAIT))
    server.start()
    answers = []
    caller = threading.Thread(
        target=lambda: answers.append(post(server, json.dumps({"model": "tiny", "messages": HELLO})))
    )
    caller.start()
    engine.submitted.get(timeout=WAIT)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    engine.release()
    stopper.join(timeout=WAIT)
    caller.join(timeout=WAIT)
    assert answers[0][0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=WAIT)


def test_health_tells_whether_requests_are_taken(server, engine):
    def health():
        connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT)
        connection.request("GET", "/health")
        status = connection.getresponse().status
        connection.close()
        return status

    assert health() == 200
    engine.broken = True
    body = json.dumps({"model": "tiny", "messages": HELLO})
    assert [post(server, body)[0] for _ in range(2)] == [503, 503]
    assert health() == 503
    assert str(server.failure) == "the device is lost"


def test_failed_engine_answers_503_and_ends_serving(engine, chat_format):
    engine.broken = True
    seen, asking = [], []

    def announce(address):
        def ask():
            host, port = address.split("//")[1].split("/")[0].split(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=WAIT)
            connection.request("POST", "/v1/chat/completions", json.dumps({"model": "tiny", "messages": HELLO}))
            seen.append(connection.getresponse().status)
            connection.close()

        asking.append(threading.Thread(target=ask))
        asking[0].start()

    with pytest.raises(AloeError, match="the device is lost"):
        serve_forever([Loaded("tiny", engine, chat_format)], port=0, announce=announce)
    asking[0].join(timeout=WAIT)
    assert seen == [503]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_serving_in_order(engine, chat_format, number):
    before = signal.getsignal(number)
    serve_forever([Loaded("tiny", engine, chat_format)], port=0, announce=lambda address: os.kill(os.getpid(), number))
    assert signal.getsignal(number) is before


def test_port_in_use_is_one_clear_sentence(engine, chat_format):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} on 127\.0\.0\.1 is in use.*--port") as caught:
            Server(engine, chat_format, "tiny", port=port).start()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("host", "port", "named"), [("127.0.0.1", 70000, "70000"), ("192.0.2.1", 0, "192.0.2.1")])
def test_address_that_cannot_be_had_is_refused(engine, chat_format, monkeypatch, host, port, named):
    monkeypatch.setenv("ALOE_API_KEY", "open-sesame")
    with pytest.raises(InputError, match=named):
        Server(engine, chat_format, "tiny", host=host, port=port).start()


def test_other_machines_need_a_key(engine, chat_format):
    with pytest.raises(InputError, match="ALOE_API_KEY"):
        Server(engine, chat_format, "tiny", host="0.0.0.0").start()
