"""Who may call a server with a key, or from a web page elsewhere; and that the key is told to nobody."""

import http.client
import json
import logging

import pytest

from aloe_jax.errors import InputError
from aloe_jax.serve.server.server import Server
from aloe_jax.serve.server.settings import ServerSettings

HELLO = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]})
APP = "https://app.example"


def asked(server, method="POST", path="/v1/chat/completions", **headers):
    """The response to a request with these headers, and its body."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request(method, path, HELLO if method == "POST" else None, headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.fixture
def locked(engine, chat_format, monkeypatch):
    monkeypatch.setenv("ALOE_API_KEY", "open-sesame")
    with Server(engine, chat_format, "tiny") as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/models/tiny",
        "/metrics",
        "/openapi.json",
        "/tokenize",
        "/nothing",
        "//",
        "/health/",
        "/v1/../",
    ],
)
def test_every_path_but_the_page_and_health_asks_for_the_key(locked, path):
    for headers in ({}, {"Authorization": "Bearer open-sesam"}, {"Authorization": "Basic open-sesame"}):
        response, body = asked(locked, "GET", path, **headers)
        assert (response.status, response.getheader("WWW-Authenticate")) == (401, "Bearer")
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert asked(locked, "GET", path, Authorization="bearer open-sesame")[0].status in (200, 404, 405)
    assert asked(locked, "GET", "/health")[0].status == 200


def test_key_is_in_no_log_and_no_answer(locked, engine, chat_format, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(type(chat_format), "prompt_ids", None)  # whoever calls it fails, with a traceback in the log
    answers = [
        asked(locked, Authorization="Bearer open-sesame"),
        asked(locked, Authorization="Bearer open-sesame-not"),
        asked(locked, "GET", "/metrics", Authorization="Bearer open-sesame"),
    ]
    assert [response.status for response, _ in answers] == [500, 401, 200]
    assert "a request failed" in caplog.text or "Traceback" in caplog.text
    assert "open-sesame" not in caplog.text
    assert not any(b"open-sesame" in body for _, body in answers)


def preflight(server, origin, method="POST", wanted="authorization, content-type, x-stainless-os"):
    headers = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
    return asked(server, "OPTIONS", **headers)


def test_page_elsewhere_may_call_where_it_is_named(engine, chat_format, monkeypatch):
    monkeypatch.setenv("ALOE_API_KEY", "open-sesame")
    with Server(engine, chat_format, "tiny", settings=ServerSettings(origins=(APP,))) as server:
        response, _ = preflight(server, APP)  # without the key, which browsers do not send with it
        assert response.status == 200
        assert response.getheader("Access-Control-Allow-Origin") == APP
        assert "authorization" in response.getheader("Access-Control-Allow-Headers").lower()
        json_of = {"Origin": APP, "Content-Type": "application/json"}
        for key, status in (("Bearer open-sesame", 200), ("Bearer wrong", 401)):
            response, _ = asked(server, **json_of, Authorization=key)
            assert (response.status, response.getheader("Access-Control-Allow-Origin")) == (status, APP)
        assert "Origin" in response.getheader("Vary")
        for other in ("https://app.example.evil", "http://app.example", "https://app.example:444", "null"):
            for response, _ in (preflight(server, other), asked(server, Origin=other)):
                assert response.status == 403
                assert response.getheader("Access-Control-Allow-Origin") is None


def test_without_a_named_origin_no_page_may_call(engine, chat_format):
    with Server(engine, chat_format, "tiny") as server:
        response, _ = preflight(server, APP)
        assert response.status == 403
        response, _ = asked(server, "GET", "/v1/models")
        assert not [name for name, _ in response.getheaders() if name.lower().startswith("access-control")]
    assert engine.submitted.empty()


def test_names_that_are_given_are_checked_with_a_key_too(engine, chat_format, monkeypatch):
    with Server(engine, chat_format, "tiny", settings=ServerSettings(hosts=("models.example",))) as server:
        assert asked(server, Host="models.example:8000")[0].status == 200
        assert asked(server, Host="evil.example")[0].status == 403
    monkeypatch.setenv("ALOE_API_KEY", "open-sesame")
    with Server(engine, chat_format, "tiny", settings=ServerSettings(hosts=("models.example",))) as server:
        key = {"Authorization": "Bearer open-sesame"}
        assert asked(server, **key, Host="models.example")[0].status == 200
        response, body = asked(server, **key, Host="evil.example")
        assert response.status == 403
        assert b"--allow-host" in body


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example", "https://app.example/", "https://App.example", "https://a.example/page", ""]
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(InputError, match="allow-origin"):
        ServerSettings(origins=(origin,))


def test_what_is_no_name_is_refused():
    with pytest.raises(InputError, match="allow-host"):
        ServerSettings(hosts=("http://models.example",))
