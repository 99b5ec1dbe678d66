"""`aloe serve`: the HTTP application, the engine on its thread, and an orderly shutdown of both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from starlette.types import ASGIApp

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.client.exchange import api_key
from aloe_jax.serve.server.app import OpenAiErrors, create_app, guarded
from aloe_jax.serve.server.http_server import HttpServer, is_loopback, signals_call
from aloe_jax.serve.trees_file import TreesFile
from aloe_jax.serve.worker import Engine, Worker
from aloe_jax.tree.template import ChatFormat

API_KEY_ENV = "ALOE_API_KEY"


class Server:
    """An OpenAI-compatible server for one engine, in this process.

    Between `start` and `stop` the engine belongs to the server's thread. Port 0 takes a free one. If the environment
    variable ALOE_API_KEY is set, requests must carry it as a bearer token; without one, requests of web pages and to
    foreign host names are refused. `on_failure` is called, on another thread, if the engine fails while serving.
    `trees` keeps the conversations of the page. A server starts once. Raises InputError for a key that no header can
    carry.
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
        trees: TreesFile | None = None,
    ) -> None:
        self._worker = Worker(engine, on_failure=on_failure)
        self._api_key = api_key(API_KEY_ENV) or None
        app: ASGIApp = OpenAiErrors(
            create_app(self._worker, chat_format, model_name, api_key=self._api_key, trees=trees)
        )
        if self._api_key is None:
            app = guarded(app, host)
        self._http = HttpServer(app, host, port, grace_seconds)

    @property
    def host(self) -> str:
        """The address on which it listens."""
        return self._http.host

    @property
    def port(self) -> int:
        """The port; after `start` the one that was bound."""
        return self._http.port

    @property
    def failure(self) -> BaseException | None:
        """The error that the engine raised while serving; after it every completion is answered with 503."""
        return self._worker.failure

    @property
    def base_url(self) -> str:
        """The base URL for clients, `/v1` included."""
        return f"{self._http.url}/v1"

    def start(self) -> int:
        """Listen and serve in the background; returns the port.

        Raises InputError if the port cannot be bound, or if the host is reachable from other machines without a key.
        """
        if not is_loopback(self.host) and self._api_key is None:
            raise InputError(
                f"host '{self.host}' is reachable from other machines; set the environment variable {API_KEY_ENV} "
                "to a key that clients must send, or serve on 127.0.0.1"
            )
        self._http.listen()
        self._worker.start()
        self._http.start()
        return self.port

    def stop(self) -> None:
        """Refuse new connections, let running requests finish for `grace_seconds`, cancel the rest, free the engine."""
        if self._http.stop():
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
    trees: TreesFile | None = None,
) -> None:
    """The body of `aloe serve`: passes the address to `announce`, then serves until SIGINT or SIGTERM.

    Must run on the main thread. A second signal, while running requests finish, is no longer caught and ends the
    process. Raises InputError as `Server.start` does and AloeError if the engine fails.
    """
    ended = threading.Event()
    server = Server(engine, chat_format, model_name, host=host, port=port, on_failure=ended.set, trees=trees)
    with signals_call(ended.set):
        server.start()
        announce(
            f"serving {model_name} at {server.base_url}, a page to talk to it at {server.base_url.removesuffix('v1')}; "
            "Ctrl-C stops"
        )
        ended.wait()
    server.stop()
    if server.failure is not None:
        raise AloeError(f"the decoding engine failed: {server.failure}") from server.failure
