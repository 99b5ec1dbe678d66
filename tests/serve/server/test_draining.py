"""A server that stops: running requests finish, new ones are sent elsewhere, and it does not wait for ever."""

import contextlib
import http.client
import json
import os
import signal
import threading

from aloe_jax.serve.served_model import Loaded
from aloe_jax.serve.server.server import Server, serve_forever
from aloe_jax.serve.server.settings import ServerSettings
from helpers.waiting import until

WAIT = 30  # seconds until a test gives up on another thread
HELLO = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]})


def asked(port, method="POST", path="/v1/chat/completions"):
    """The response, and its JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    connection.request(method, path, HELLO if method == "POST" else None)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body if path == "/metrics" else json.loads(body)


@contextlib.contextmanager
def running(engine, port):
    """A request that is under way in the block, and its answer in a list behind it."""
    answers = []
    caller = threading.Thread(target=lambda: answers.append(asked(port)))
    caller.start()
    try:
        engine.submitted.get(timeout=WAIT)
        yield answers
    finally:
        engine.release()
        caller.join(WAIT)


def interrupted(number, frame):
    """What the command does on a signal before and behind the server's own handling."""
    raise KeyboardInterrupt


def until_draining(port):
    """Returns the first answer of /health that is not well."""
    found = []

    def drains():
        found[:] = asked(port, "GET", "/health")
        return found[0].status != 200

    assert until(drains, WAIT)
    return tuple(found)


def test_running_requests_finish_and_new_ones_are_refused(engine, chat_format):
    engine.hold()
    server = Server(engine, chat_format, "tiny", settings=ServerSettings(drain_seconds=WAIT))
    server.start()
    stopper = threading.Thread(target=server.stop)
    with running(engine, server.port) as answers:
        stopper.start()
        response, body = until_draining(server.port)
        assert (response.status, body) == (503, {"status": "draining"})
        response, body = asked(server.port)
        assert (response.status, body["error"]["code"]) == (503, "draining")
        assert 1 <= int(response.getheader("Retry-After")) <= WAIT
        assert asked(server.port, "GET", "/metrics")[0].status == 200
        assert not answers
        engine.release()
    stopper.join(WAIT)
    (response, body), *_ = answers
    assert response.status == 200
    assert body["choices"][0]["message"]["content"]


def test_what_takes_longer_is_failed_in_shape(engine, chat_format):
    engine.hold()
    server = Server(engine, chat_format, "tiny", settings=ServerSettings(drain_seconds=0.1))
    server.start()
    with running(engine, server.port) as answers:
        server.stop()
    (response, body), *_ = answers
    assert (response.status, body["error"]["type"]) == (503, "server_error")


def test_second_signal_ends_at_once(engine, chat_format):
    """The first one lets the request run for a minute."""
    engine.hold()
    ported, served, seen, sent = threading.Event(), threading.Event(), [], []

    def interrupt():
        try:
            assert ported.wait(WAIT)
            with running(engine, seen[0]):
                os.kill(os.getpid(), signal.SIGTERM)
                until_draining(seen[0])
                os.kill(os.getpid(), signal.SIGTERM)
                engine.release()
            sent.append("both")
        except BaseException:
            if ported.is_set() and not served.is_set():
                os.kill(os.getpid(), signal.SIGTERM)  # or the test would wait for ever
            raise

    def announce(line):
        seen.append(int(line.split("127.0.0.1:")[1].split("/")[0]))
        ported.set()

    asking = threading.Thread(target=interrupt)
    asking.start()
    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        serve_forever(
            [Loaded("tiny", engine, chat_format)],
            port=0,
            settings=ServerSettings(drain_seconds=60),
            announce=announce,
        )
        ended = False
    except KeyboardInterrupt:
        ended = True
    finally:
        served.set()
        asking.join(WAIT)
        signal.signal(signal.SIGTERM, before)
    assert ended
    assert sent
