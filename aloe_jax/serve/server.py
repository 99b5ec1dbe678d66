"""`aloe serve`: the application on a socket, the engine on its thread, and an orderly end of both."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

import uvicorn

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.app import create_app
from aloe_jax.serve.worker import Engine, Worker
from aloe_jax.tree.template import ChatFormat

API_KEY_ENV = "ALOE_API_KEY"


class Server:
    """An OpenAI-compatible server for one engine, in this process.

    Between `start` and `stop` the engine belongs to the server's thread. Port 0 takes a free one. If the environment
    variable ALOE_API_KEY is set, requests must carry it as bearer token. `on_failure` is called, on another thread, if
    the engine fails while serving. A server starts once.
    """

    def __init__(
        self,
        engine: Engine,
        chat_format: ChatFormat,
        model_name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        grace_seconds: int = 5,
        on_failure: Callable[[], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._worker = Worker(engine, on_failure=on_failure)
        self._api_key = os.environ.get(API_KEY_ENV, "").strip() or None
        app = create_app(self._worker, chat_format, model_name, api_key=self._api_key)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="warning",
                timeout_graceful_shutdown=grace_seconds,
            )
        )
        self._thread: threading.Thread | None = None

    @property
    def failure(self) -> Exception | None:
        """What the engine raised while serving; from then on every completion is answered 503."""
        return self._worker.failure

    @property
    def base_url(self) -> str:
        """What clients take as base URL, `/v1` included."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    def start(self) -> int:
        """Listen and serve in the background; returns the port.

        Raises InputError if the port cannot be had, or if the host is reachable from other machines and no key is set.
        """
        if not _is_loopback(self.host) and self._api_key is None:
            raise InputError(
                f"host '{self.host}' is reachable from other machines; set the environment variable {API_KEY_ENV} "
                "to a key that clients must send, or serve on 127.0.0.1"
            )
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._worker.start()
        # The socket listens already, so a client that connects before uvicorn accepts waits and is not refused.
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [listener]}, name="aloe-http", daemon=True
        )
        self._thread.start()
        return self.port

    def stop(self) -> None:
        """Refuse new connections, let running requests finish for `grace_seconds`, cancel the rest, free the engine."""
        if self._thread is None:
            return
        self._uvicorn.should_exit = True
        self._thread.join()
        self._thread = None
        self._worker.stop()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve_forever(
    engine: Engine,
    chat_format: ChatFormat,
    model_name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    announce: Callable[[str], None] = print,
) -> None:
    """The body of `aloe serve`: tells the address through `announce`, then serves until SIGINT or SIGTERM.

    Must run on the main thread. A second signal, while requests under way finish, is not caught any more and ends the
    process. Raises InputError as `Server.start` does and AloeError if the engine fails.
    """
    ended = threading.Event()
    server = Server(engine, chat_format, model_name, host=host, port=port, on_failure=ended.set)
    with _signals_call(ended.set):
        server.start()
        announce(f"serving {model_name} at {server.base_url}; Ctrl-C stops")
        ended.wait()
    server.stop()
    if server.failure is not None:
        raise AloeError(f"the decoding engine failed: {server.failure}") from server.failure


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OverflowError:
        raise InputError(f"port {port} is not between 0 and 65535; choose another with --port=N") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "is in use; stop the program that uses it"
        else:
            reason = f"cannot be had ({error.strerror or error}); check the host"
        raise InputError(
            f"port {port} on {host} {reason}, or choose another port with --port=N (0: a free one)"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _signals_call(action: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `action` inside the block; the handlers from before come back after it."""

    def handle(number: int, frame: FrameType | None) -> None:
        action()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
