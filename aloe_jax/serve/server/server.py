"""`aloe serve`: the HTTP application, each engine on its thread, and an orderly shutdown of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.client.exchange import api_key
from aloe_jax.serve.pace import Pace
from aloe_jax.serve.served_model import Loaded, ServedModel
from aloe_jax.serve.server.app import create_app
from aloe_jax.serve.server.draining import Draining
from aloe_jax.serve.server.http_server import HttpServer, is_loopback, signals_call
from aloe_jax.serve.server.metrics import Metrics, ModelMetrics
from aloe_jax.serve.server.protection import error_body, protected
from aloe_jax.serve.server.settings import ServerSettings
from aloe_jax.serve.trees_file import TreesFile
from aloe_jax.serve.worker import Engine, Worker
from aloe_jax.tree.template import ChatFormat

API_KEY_ENV = "ALOE_API_KEY"


class Server:
    """An OpenAI-compatible server in this process, for one engine or, made by `of`, for several.

    Between `start` and `stop` each engine belongs to a thread of the server. Port 0 takes a free one. If the
    environment variable ALOE_API_KEY is set, requests must carry it as a bearer token; without one, requests of web
    pages and to foreign host names are refused. `on_failure` is called, on another thread, if an engine fails while
    serving. `trees` keeps the conversations of the page. A server starts once. Raises InputError for a key that no
    header can carry.
    """

    def __init__(
        self,
        engine: Engine,
        chat_format: ChatFormat,
        model_name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: ServerSettings | None = None,
        on_failure: Callable[[], None] | None = None,
        trees: TreesFile | None = None,
    ) -> None:
        self._begin([Loaded(model_name, engine, chat_format)], host, port, settings, on_failure, trees)

    @classmethod
    def of(
        cls,
        models: Sequence[Loaded],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: ServerSettings | None = None,
        on_failure: Callable[[], None] | None = None,
        trees: TreesFile | None = None,
    ) -> Server:
        """A server for several models of different names, each with an engine of its own."""
        server = cls.__new__(cls)
        server._begin(models, host, port, settings, on_failure, trees)
        return server

    def _begin(
        self,
        models: Sequence[Loaded],
        host: str,
        port: int,
        settings: ServerSettings | None,
        on_failure: Callable[[], None] | None,
        trees: TreesFile | None,
    ) -> None:
        self._settings = settings = settings or ServerSettings()
        metrics = Metrics()
        paces = [Pace(ModelMetrics(metrics, model.name)) for model in models]
        self._workers = [
            Worker(model.engine, max_waiting=settings.queue, on_failure=on_failure, pace=pace)
            for model, pace in zip(models, paces, strict=True)
        ]
        served = [
            ServedModel(model.name, worker, model.chat_format)
            for model, worker in zip(models, self._workers, strict=True)
        ]
        metrics.watch([(model.name, model.worker) for model in served])
        self._api_key = api_key(API_KEY_ENV) or None
        app = create_app(
            served,
            max_body_bytes=settings.max_body_bytes,
            wants_key=self._api_key is not None,
            trees=trees,
            catalogue=settings.catalogue,
            more=[metrics.route()],
        )
        self._draining = Draining(protected(app, host, self._api_key, settings))
        counted = metrics.counted(self._draining, app.routes)
        self._http = HttpServer(counted, host, port, limits=settings.connections, error=error_body)

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
        """Refuse new requests, let running ones finish for the settings' `drain_seconds`, fail the rest, and free the
        engines."""
        if not self._http.running:
            return
        self._draining.begin(self._settings.drain_seconds)
        self._draining.wait()
        for worker in self._workers:
            worker.stop()
        self._http.stop()

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
    settings: ServerSettings | None = None,
    announce: Callable[[str], None] = print,
    trees: TreesFile | None = None,
) -> None:
    """The body of `aloe serve`: passes the address to `announce`, then serves until SIGINT or SIGTERM.

    Must run on the main thread. A second signal, while running requests finish, is no longer caught and ends the
    process. Raises InputError as `Server.start` does and AloeError if an engine fails.
    """
    ended = threading.Event()
    server = Server.of(models, host=host, port=port, settings=settings, on_failure=ended.set, trees=trees)
    with signals_call(ended.set):
        server.start()
        names = ", ".join(model.name for model in models)
        page = server.base_url.removesuffix("v1")
        announce(f"serving {names} at {server.base_url}, with a page to talk to it at {page}; Ctrl-C stops")
        ended.wait()
    server.stop()
    if server.failure is not None:
        raise AloeError(f"the decoding engine failed: {server.failure}") from server.failure
