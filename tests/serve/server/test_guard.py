"""A server without a key answers programs of this machine and no web page; whatever fails, an error has one shape."""

import http.client
import json

import pytest

from aloe_jax.serve.server.server import Server

HELLO = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]})


def asked(server, method="POST", path="/v1/chat/completions", **headers):
    """Status and JSON of the response to a request with these headers."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request(method, path, HELLO if method == "POST" else None, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8000"},
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
        {"Origin": "http://evil.example", "Content-Type": "application/json"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},  # another port of this machine
    ],
)
def test_foreign_requests_are_refused(server, engine, headers):
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/health")):
        status, body = asked(server, method, path, **headers)
        assert status == 403
        assert set(body["error"]) == {"message", "type", "param", "code"}
    assert engine.submitted.empty()


def test_a_text_of_its_own_origin_is_refused(server):
    origin = f"http://127.0.0.1:{server.port}"
    assert asked(server, Origin=origin, **{"Content-Type": "text/plain"})[0] == 415
    assert asked(server, Origin=origin, **{"Content-Type": "application/json"})[0] == 200


def test_programs_of_this_machine_are_answered(server):
    assert asked(server)[0] == 200  # as curl sends it, without Origin or type
    assert asked(server, Host=f"localhost:{server.port}", **{"Content-Type": "application/json"})[0] == 200
    assert asked(server, "GET", "/v1/models", Host="[::1]:8000")[0] == 200


def test_with_a_key_the_key_decides(engine, chat_format, monkeypatch):
    monkeypatch.setenv("ALOE_API_KEY", "sesame")
    with Server(engine, chat_format, "tiny") as server:
        key = {"Authorization": "Bearer sesame"}
        assert asked(server, Host="models.example", **key)[0] == 200
        page = {"Host": "models.example", "Content-Type": "application/json"}
        assert asked(server, **page, Origin="https://models.example")[0] == 401  # a proxy before it speaks TLS
        assert asked(server, **page, **key, Origin="https://models.example")[0] == 200
        assert asked(server, **page, **key, Origin="http://evil.example")[0] == 403


class Panic(BaseException):
    """What a native library's panic is: no Exception."""


@pytest.mark.parametrize("kind", [Panic, RuntimeError])
def test_whatever_fails_the_error_is_shaped(server, chat_format, monkeypatch, kind):
    def fail(self, messages):
        raise kind("regex")

    monkeypatch.setattr(type(chat_format), "prompt_ids", fail)
    status, body = asked(server)
    assert (status, body["error"]["type"]) == (500, "server_error")
    monkeypatch.undo()
    assert asked(server)[0] == 200


def test_a_panic_of_the_engine_ends_requests_and_no_thread_hangs(server, engine):
    def step():
        raise Panic("grammar")

    engine.step = step
    status, body = asked(server)
    assert (status, body["error"]["type"]) == (503, "server_error")
    assert isinstance(server.failure, Panic)
