"""An HTTP application on a thread of its own, with an orderly shutdown: what `aloe serve` and `aloe view` share."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp

from aloe_jax.errors import InputError
from aloe_jax.serve.server.connections import HEADER_BYTES, ConnectionLimits, ErrorBody, limited_protocol, plain_error

GRACE_SECONDS = 1


class HttpServer:
    """Serves `app` between `start` and `stop`. Port 0 takes a free one. A server starts once. `limits` hold for each
    connection, and `error` makes the body of an answer to what never reaches `app`."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        limits: ConnectionLimits | None = None,
        error: ErrorBody = plain_error,
    ) -> None:
        self.host = host
        self.port = port
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                http=limited_protocol(limits or ConnectionLimits(), error),
                h11_max_incomplete_event_size=HEADER_BYTES,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="warning",
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Its address without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._thread is not None

    def listen(self) -> None:
        """Bind the port; connections wait for `start`. Raises InputError if the port cannot be bound."""
        self._listener = _listen(self.host, self.port)
        self.port = self._listener.getsockname()[1]

    def start(self) -> None:
        """Serve in the background; binds the port first if `listen` was not called."""
        if self._listener is None:
            self.listen()
        # The socket listens already, so a client that connects before uvicorn accepts waits and is not refused.
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self._listener]}, name="aloe-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> bool:
        """Refuse new connections, let running requests finish for a second, cancel the rest. Returns whether the
        server was running."""
        if self._thread is None:
            return False
        self._uvicorn.should_exit = True
        self._thread.join()
        self._thread = None
        return True


async def read_body(request: Request, most: int) -> bytes | None:
    """The body of a request; None if it is longer than `most` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def check_free(host: str, port: int) -> None:
    """InputError if the port cannot be bound: before models are loaded, which takes longer."""
    _listen(host, port).close()


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


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def signals_call(action: Callable[[], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP call `action` inside the block, SIGHUP once, as shell and kernel may both send it, and
    not if it is ignored; the previous handlers are restored after it."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)
        action()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
