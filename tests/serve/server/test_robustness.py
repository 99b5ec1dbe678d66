"""What no client should send: the answer is an OpenAI-shaped error, and the server goes on. A real engine is behind it,
as its grammars meet what the requests hold."""

import gzip
import http.client
import json
import socket

import jax
import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder
from aloe_jax.serve.server.connections import HEADER_BYTES
from aloe_jax.serve.server.server import Server
from helpers.byte_model import TINY

WAIT = 60  # seconds until a test gives up on the server
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
CHAT = "/v1/chat/completions"
DEPTHS = (50, 300, 900, 1000, 1500, 100_000)  # of nesting, on both sides of what Python reads


@pytest.fixture(scope="module")
def server(chat_format):
    ends = chat_format.tokenizer.end_of_turn_ids
    params = decoder.init_params(TINY, jax.random.key(0))
    engine = Engine(TINY, params, slots=3, context=96, end_of_turn=ends, grammar=Grammar(chat_format.tokenizer))
    with Server(engine, chat_format, "tiny") as server:
        yield server
        assert server.failure is None


def sent(server, head, body=b""):
    """Status and JSON of the response to raw bytes; `head` has no Host, no length and no last empty line."""
    lines = [head, f"Host: localhost:{server.port}".encode(), f"Content-Length: {len(body)}".encode()]
    with socket.create_connection((server.host, server.port), timeout=WAIT) as connection:
        connection.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, json.loads(response.read())


def posted(server, body, path=CHAT, kind=b"application/json"):
    return sent(server, f"POST {path} HTTP/1.1\r\nContent-Type: ".encode() + kind, body)


def check_refused(server, answer, *statuses):
    """The answer is a shaped error, and the server still answers others."""
    status, body = answer
    assert status in statuses, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert 0 < len(body["error"]["message"]) < 2000
    assert sent(server, b"GET /health HTTP/1.1") == (200, {"status": "ok"})


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    "place", ["body", "content", "logit_bias", "stop", "metadata", "chat_template_kwargs", "model"]
)
def test_brackets(server, place, depth):
    """Harmless fields and template variables may hold what can be read; everything else is refused."""
    deep = b"[" * depth + b"]" * depth
    if place == "body":
        body = deep
    elif place == "content":
        body = (
            json.dumps({**HELLO, "messages": [{"role": "user", "content": "@"}]}).replace('"@"', deep.decode()).encode()
        )
    else:
        value = b'{"deep": ' + deep + b"}" if place == "chat_template_kwargs" else deep
        body = json.dumps({**HELLO, place: "@"}).encode().replace(b'"@"', value)
    status, answer = posted(server, body)
    if status == 200:
        assert place in ("metadata", "chat_template_kwargs")
        assert depth < 1000
    else:
        check_refused(server, (status, answer), 400)


@pytest.mark.parametrize("opened", [b"[" * 100_000, b'{"a":' * 100_000, b'"' * 100_001])
def test_brackets_that_are_never_closed(server, opened):
    check_refused(server, posted(server, opened), 400)


def nested(depth, inner, outer):
    """JSON text of a schema within schemas."""
    begin, end = outer
    return begin * depth + inner + end * depth


@pytest.mark.parametrize("depth", [20, 200, 400, 900])
@pytest.mark.parametrize(
    "outer",
    [
        ('{"type":"object","properties":{"a":', '},"required":["a"]}'),
        ('{"type":"array","items":', "}"),
        ('{"anyOf":[', ',{"type":"null"}]}'),
        ('{"allOf":[', "]}"),
        ('{"not":', "}"),
    ],
)
def test_deep_schema(server, depth, outer):
    """It is kept or refused by name."""
    schema = nested(depth, '{"type":"boolean"}', outer)
    body = json.dumps({**HELLO, "structured_outputs": {"json": "@"}}).replace('"@"', schema)
    status, answer = posted(server, body.encode())
    if status != 200:
        check_refused(server, (status, answer), 400)
        assert answer["error"]["param"] in ("structured_outputs", "structured_outputs.json", None)


@pytest.mark.parametrize(
    "constraint",
    [
        {"regex": "(" * 5000 + "a" + ")" * 5000},
        {"regex": "(a*)*" * 2000},
        {"regex": "((a{1,100}){1,100}){1,100}"},
        {"json": {"$ref": "#"}},
        {"json": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}},
        {"json": {"$ref": "http://127.0.0.1:1/schema"}},
        {"json": {"type": "string", "pattern": "(" * 3000}},
        {"json": {"type": "array", "minItems": 10**9, "items": {"type": "null"}}},
        {"json": {"type": "string", "minLength": 10**9}},
        {"json": {"enum": [list(range(500))] * 20}},
        {"choice": ["x" * 100_000]},
        {"choice": ["a" * number for number in range(1, 500)]},
    ],
    ids=lambda constraint: str(constraint)[:60],
)
def test_hostile_constraint(server, constraint):
    status, answer = posted(server, json.dumps({**HELLO, "structured_outputs": constraint}).encode())
    if status != 200:
        check_refused(server, (status, answer), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v1/../v1/models",
        "/v1/%2e%2e/health",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models/../../health",
        "/v1/models/%2e%2e%2fhealth",
        "/v1/models/%00",
        "/v1/models/tiny%00",
        "/v1/models/tiny/",
        "//v1/models",
        "/v1//models",
        "//evil.example/v1/models",
        "/v1/models;a=b",
        "/v1\\models",
        "/V1/models",
        "/v1/models/%ff%fe",
        "/v1/models/" + "x" * 8000,
        "http://evil.example/v1/models",
        "*",
    ],
)
def test_path_tricks(server, path):
    check_refused(server, sent(server, f"GET {path} HTTP/1.1".encode()), 404)


def test_encoded_letters_are_letters(server):
    assert sent(server, b"GET /v1/%6dodels HTTP/1.1")[1]["data"][0]["id"] == "tiny"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_other_methods(server, method):
    check_refused(server, sent(server, f"{method} {CHAT} HTTP/1.1".encode()), 405)


def test_header_without_end(server):
    with socket.create_connection((server.host, server.port), timeout=WAIT) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX: " + b"x" * (HEADER_BYTES + 1))
        response = http.client.HTTPResponse(connection)
        response.begin()
        check_refused(server, (response.status, json.loads(response.read())), 431)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe{}",
        json.dumps(HELLO).encode("utf-16"),
        json.dumps(HELLO).encode().replace(b"hello", b"\xc3\x28"),
        json.dumps(HELLO).encode().replace(b"hello", b"\\ud800"),
        json.dumps(HELLO).encode()[:-1],
        json.dumps(HELLO).encode() + b"{}",
        b"\x1f\x8b\x08" + b"\0" * 30,
        b"model=tiny&messages=hello",
        b"null",
        b'{"model":"tiny","model":"tiny"}',
        b'{"n":' + b"9" * 5000 + b"}",
        json.dumps({**HELLO, "temperature": float("nan")}).encode(),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize"])
def test_body_that_is_none(server, body, path):
    check_refused(server, posted(server, body, path), 400)


@pytest.mark.parametrize("content", ["\0", "a\0b", "\u202e", "<|end|>" * 20, "\ud83d\ude00", "\r\n\r\n"])
def test_odd_text_is_text(server, content):
    """All of these are text to a model; special tokens in it are read as the template's own, as in training."""
    body = json.dumps({**HELLO, "messages": [{"role": "user", "content": content}]}).encode()
    status, answer = posted(server, body)
    if status != 200:
        check_refused(server, (status, answer), 400)


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"multipart/form-data; boundary=x", b"", b"\xff", b"application/json; x=" + b"y" * 999]
)
def test_a_program_may_call_its_json_what_it_likes(server, kind):
    """A web page may not: `test_guard.py`."""
    assert posted(server, json.dumps(HELLO).encode(), kind=kind)[0] == 200


@pytest.mark.parametrize("coding", ["gzip", "GZIP, br"])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize", "/trees"])
def test_a_compressed_body_is_refused_as_such(server, path, coding):
    head = f"POST {path} HTTP/1.1\r\nContent-Encoding: {coding}".encode()
    answer = sent(server, head, gzip.compress(json.dumps(HELLO).encode()))
    check_refused(server, answer, 415)
    assert f"Content-Encoding '{coding.lower()}'" in answer[1]["error"]["message"]


def test_identity_is_no_compression(server):
    head = f"POST {CHAT} HTTP/1.1\r\nContent-Encoding: Identity".encode()
    assert sent(server, head, json.dumps(HELLO).encode())[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "[::1", "", "localhost@evil", "0"]
)
def test_rebinding(server, host):
    with socket.create_connection((server.host, server.port), timeout=WAIT) as connection:
        connection.sendall(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        check_refused(server, (response.status, json.loads(response.read())), 403)


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        (CHAT, {"max_tokens": 96}, "max_tokens"),
        (CHAT, {"messages": [{"role": "user", "content": "x" * 100}]}, "messages"),
        ("/v1/completions", {"prompt": "x" * 90, "max_tokens": 10}, "prompt"),
        ("/v1/completions", {"prompt": ["x", "x" * 200], "max_tokens": 1}, "prompt"),
        (CHAT, {"n": 129}, "n"),
        ("/v1/completions", {"prompt": ["x"] * 300, "max_tokens": 1}, "prompt"),
        ("/v1/completions", {"prompt": ["x"] * 9, "n": 128, "max_tokens": 1}, "n"),
        (CHAT, {"stop": ["a"] * 17}, "stop"),
        (CHAT, {"logit_bias": {"": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {str(number): 1 for number in range(301)}}, "logit_bias"),
    ],
)
def test_more_than_the_limits_is_refused_by_name(server, path, fields, named):
    base = HELLO if path == CHAT else {"model": "tiny"}
    answer = posted(server, json.dumps({**base, **fields}).encode(), path)
    check_refused(server, answer, 400)
    assert named in json.dumps(answer[1])
