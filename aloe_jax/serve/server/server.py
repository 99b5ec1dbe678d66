"""`aloe serve`: the HTTP application, each engine on its thread, and an orderly shutdown of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from starlette.types import ASGIApp

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.client.exchange import api_key
from aloe_jax.serve.served_model import Loaded, ServedModel
from aloe_jax.serve.server.app import create_app, guarded
from aloe_jax.serve.server.errors import OpenAiErrors
from aloe_jax.serve.server.http_server import HttpServer, is_loopback, signals_call
from aloe_jax.serve.worker import Engine, Worker
from aloe_jax.tree.template import ChatFormat

API_KEY_ENV = "ALOE_API_KEY"


class Server:
    """An OpenAI-compatible server in this process, for one engine or, made by `of`, for several.

    Between `start` and `stop` each engine belongs to a thread of the server. Port 0 takes a free one. If the
    environment variable ALOE_API_KEY is set, requests must carry it as a bearer token; without one, requests of web
    pages and to foreign host names are refused. `on_failure` is called, on another thread, if an engine fails while
    serving. A server starts once. Raises InputError for a key that no header can carry.
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
        self._begin([Loaded(model_name, engine, chat_format)], host, port, grace_seconds, on_failure)

    @classmethod
    def of(
        cls,
        models: Sequence[Loaded],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        grace_seconds: int = 5,
        on_failure: Callable[[], None] | None = None,
    ) -> Server:
        """A server for several models of different names, each with an engine of its own."""
        server = cls.__new__(cls)
        server._begin(models, host, port, grace_seconds, on_failure)
        return server

    def _begin(
        self,
        models: Sequence[Loaded],
        host: str,
        port: int,
        grace_seconds: int,
        on_failure: Callable[[], None] | None,
    ) -> None:
        workers = [Worker(model.engine, on_failure=on_failure) for model in models]
        served = [
            ServedModel(model.name, worker, model.chat_format) for model, worker in zip(models, workers, strict=True)
        ]
        self._workers = workers
        self._api_key = api_key(API_KEY_ENV) or None
        app: ASGIApp = OpenAiErrors(create_app(served, api_key=self._api_key))
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
        """The error that an engine raised while serving; after it its completions are answered with 503."""
        return next((worker.failure for worker in self._workers if worker.failure is not None), None)

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
        for worker in self._workers:
            worker.start()
        self._http.start()
        return self.port

    def stop(self) -> None:
        """Refuse new connections, let running requests finish for `grace_seconds`, cancel the rest, and free
        the engines."""
        if self._http.stop():
            for worker in self._workers:
                worker.stop()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve_forever(
    models: Sequence[Loaded],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    announce: Callable[[str], None] = print,
) -> None:
    """The body of `aloe serve`: passes the address to `announce`, then serves until SIGINT or SIGTERM.

    Must run on the main thread. A second signal, while running requests finish, is no longer caught and ends the
    process. Raises InputError as `Server.start` does and AloeError if an engine fails.
    """
    ended = threading.Event()
    server = Server.of(models, host=host, port=port, on_failure=ended.set)
    with signals_call(ended.set):
        server.start()
        announce(f"serving {', '.join(model.name for model in models)} at {server.base_url}; Ctrl-C stops")
        ended.wait()
    server.stop()
    if server.failure is not None:
        raise AloeError(f"the decoding engine failed: {server.failure}") from server.failure
