"""A local web page for reading the trees of a run and labelling pairs of replies: `aloe view`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from aloe_jax.errors import InputError
from aloe_jax.serve.server.http_server import HttpServer, is_loopback, signals_call
from eval.viewer.app import make_app

__all__ = ["make_app", "view"]


def view(
    directory: str | Path,
    host: str = "127.0.0.1",
    port: int = 0,
    open_browser: bool = False,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the viewer of a run directory or a `trees.jsonl` until SIGINT or SIGTERM; must run on the main thread.

    `announce` is called with the address. Raises InputError if there is neither a tree nor a persona, if the port is
    not available, and if `host` is reachable from other machines, because anyone who reaches the viewer can read every
    conversation and add labels.
    """
    if not is_loopback(host):
        raise InputError(
            f"host '{host}' is reachable from other machines, and the viewer has no authentication; listen on "
            "127.0.0.1 and forward the port from there: ssh -L PORT:127.0.0.1:PORT MACHINE"
        )
    server = HttpServer(make_app(directory, host), host, port)
    ended = threading.Event()
    with signals_call(ended.set):
        server.start()
        announce(f"showing {directory} at {server.url}; Ctrl-C stops")
        if open_browser:
            import webbrowser

            webbrowser.open(server.url)
        ended.wait()
    server.stop()
