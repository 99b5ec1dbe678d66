"""What a client may hold: connections, time for a header and a body, a response it does not read. Raw sockets, since no
client library sends half a request."""

import contextlib
import http.client
import json
import socket
import threading

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse

from aloe_jax.serve.server.connections import HEADER_BYTES, ConnectionLimits
from aloe_jax.serve.server.http_server import HttpServer, read_body

WAIT = 30  # seconds until a test gives up on the server
SHORT = 0.3  # seconds that a client gets where a test waits for their end
HEADER = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


class Lengths:
    """Answers with the number of bytes of a body, or with as many bytes as the path says."""

    def __init__(self):
        self.left = threading.Event()
        self.sent = threading.Event()

    async def __call__(self, scope, receive, send):
        request = Request(scope, receive)
        try:
            body = await read_body(request, 2**20)
        except ClientDisconnect:
            self.left.set()
            return
        path = scope["path"][1:]
        if path.isdigit():
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for start in range(0, int(path), 2**16):
                chunk = b"x" * min(2**16, int(path) - start)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await PlainTextResponse(str(len(body)))(scope, receive, send)
        self.sent.set()


@contextlib.contextmanager
def serving(app=None, **limits):
    server = HttpServer(app or Lengths(), "127.0.0.1", 0, limits=ConnectionLimits(**limits))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


def connected(server):
    return socket.create_connection((server.host, server.port), timeout=WAIT)


def received(connection):
    """All that the server sends until it closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):  # a byte of ours was under way
        while chunk := connection.recv(65536):
            found += chunk
    return found


def answered(connection):
    """Status and JSON of the one response before the server closes."""
    head, _, body = received(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def ask(server, body):
    """The server's answer to an ordinary request."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT)
    connection.request("POST", "/", body)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def test_silent_connection_is_closed():
    with serving(header_seconds=SHORT) as server, connected(server) as connection:
        assert received(connection) == b""


def test_header_that_never_ends_is_refused():
    with serving(header_seconds=SHORT) as server, connected(server) as connection:
        connection.sendall(HEADER)
        status, body = answered(connection)
    assert status == 408
    assert "header" in body["error"]


def test_half_a_body_is_refused_and_its_reader_learns_it():
    app = Lengths()
    with serving(app, body_seconds=SHORT) as server, connected(server) as connection:
        connection.sendall(HEADER + b"Content-Length: 10\r\n\r\nhalf")
        status, body = answered(connection)
        assert status == 408
        assert "body" in body["error"]
        assert app.left.wait(WAIT)


@pytest.mark.parametrize("limit", ["header_seconds", "body_seconds"])
def test_trickle_is_closed_however_often_a_byte_comes(limit):
    """A byte every 30 ms: 10,000 of them would take five minutes."""
    begin = HEADER + (b"X-Slow: " if limit == "header_seconds" else b"Content-Length: 10000\r\n\r\n")
    with serving(**{limit: SHORT}) as server, connected(server) as connection:
        connection.sendall(begin)
        ended = threading.Event()

        def trickle():
            with contextlib.suppress(OSError):
                while not ended.wait(SHORT / 10):
                    connection.sendall(b"x")

        sender = threading.Thread(target=trickle)
        sender.start()
        assert b"200" not in received(connection)
        ended.set()
        sender.join()


def test_pipelined_half_body_is_refused_after_the_answer_to_the_whole_one():
    with serving(body_seconds=SHORT) as server, connected(server) as connection:
        connection.sendall(HEADER + b"Content-Length: 5\r\n\r\nwhole" + HEADER + b"Content-Length: 10\r\n\r\nhalf")
        parts = received(connection).split(b"HTTP/1.1 ")[1:]
    assert [int(part.split()[0]) for part in parts] == [200, 408]
    assert b"\r\n\r\n5" in parts[0]


def test_ordinary_requests_share_a_connection(server):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT)
    for size in (0, 10, 200_000):
        connection.request("POST", "/", b"x" * size)
        assert connection.getresponse().read() == str(size).encode()
    connection.close()


def test_connections_beyond_the_limit_are_refused_until_one_closes():
    with serving(most=2) as server:
        first, second = connected(server), connected(server)
        for connection in (first, second):  # answered, so both are counted
            connection.sendall(HEADER + b"Content-Length: 1\r\n\r\nx")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with connected(server) as third:
            status, body = answered(third)
        assert status == 503
        assert "2 connections" in body["error"]
        first.sendall(HEADER + b"Connection: close\r\nContent-Length: 1\r\n\r\nx")
        assert received(first).endswith(b"1")  # the server has closed it
        assert ask(server, b"xy") == b"2"
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEADER + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (HEADER + b"Content-Length: -1\r\n\r\nx", 400),
        (HEADER + b"Transfer-Encoding: gzip\r\n\r\nx", 501),
        (HEADER + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEADER + b"X-Long: " + b"x" * (HEADER_BYTES + 10), 431),
        (HEADER + b"\xff\xfe: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 20, 400),  # the beginning of TLS
    ],
)
def test_what_is_not_http_has_a_shaped_error(server, text, status):
    with connected(server) as connection:
        connection.sendall(text)
        found, body = answered(connection)
    assert found == status
    assert body["error"]
    assert ask(server, b"xyz") == b"3"


def test_response_that_nobody_reads_is_given_up():
    """50 MB are more than the buffers of both sockets."""
    app = Lengths()
    with serving(app, read_seconds=SHORT) as server, connected(server) as connection:
        connection.sendall(b"GET /50000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert app.sent.wait(WAIT)  # the application's send no longer waits for the client
        assert len(received(connection)) < 50_000_000
