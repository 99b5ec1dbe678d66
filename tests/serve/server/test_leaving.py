"""A client that goes away gives its pages back, also where no more of its tokens are drawn."""

import json
import socket
import threading

import jax
import pytest

from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder
from aloe_jax.serve.server.server import Server
from helpers.byte_model import TINY
from helpers.waiting import until

WAIT = 60  # seconds until a test gives up on another thread
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 60, "ignore_eos": True}


class SteppedEngine(Engine):
    """Takes a step for each permit; between them its requests stay under way."""

    def __init__(self, *arguments, **sizes):
        super().__init__(*arguments, **sizes)
        self.permits = threading.Semaphore(0)

    def step(self):
        return super().step() if self.permits.acquire(timeout=0.01) else []


@pytest.fixture(scope="module")
def engine(chat_format):
    params = decoder.init_params(TINY, jax.random.key(0))
    return SteppedEngine(TINY, params, slots=3, context=96, end_of_turn=chat_format.tokenizer.end_of_turn_ids)


@pytest.fixture(scope="module")
def server(engine, chat_format):
    with Server(engine, chat_format, "tiny") as server:
        yield server


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"stream": True}),
        ("/v1/chat/completions", {"stream": True, "n": 3}),
        ("/v1/completions", {"prompt": ["one", "two"], "messages": None}),
        ("/v1/completions", {"prompt": ["one", "two"], "messages": None, "stream": True}),
    ],
)
def test_pages_of_who_leaves_are_free(server, engine, path, fields):
    body = json.dumps({**CHAT, **fields}).encode()
    with socket.create_connection((server.host, server.port), timeout=WAIT) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert until(lambda: engine.busy)
        engine.permits.release()
        assert until(lambda: engine.state.used_pages)
        if fields.get("stream"):
            received = b""
            connection.settimeout(1)
            while b"data: " not in received:
                try:
                    part = connection.recv(4096)
                except TimeoutError:  # the first token, drawn at random, may be part of a character and no text yet
                    engine.permits.release()
                    continue
                assert part, received
                received += part
        assert engine.busy
    assert until(lambda: not engine.busy)
    assert engine.state.used_pages == engine.state.running == 0
