"""The viewer's HTTP application: the page, the index, one tree, labels and their agreement, and ratings."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.server.guard import HOSTS, Guard
from aloe_jax.serve.server.http_server import read_body
from eval.viewer.agreement import report
from eval.viewer.benchmark import results_under
from eval.viewer.index import TreeIndex
from eval.viewer.labels import LabelFile, LabelRequest, label, labeller_of
from eval.viewer.page import page
from eval.viewer.personas import has_personas, pools
from eval.viewer.tail import TailedFile, parse

if TYPE_CHECKING:
    from eval.viewer.ratings import Ratings

LABELS = "labels.jsonl"
PART = 400  # trees per answer of /api/index
MAX_BODY_BYTES = 64 * 1024


def make_app(directory: str | Path, host: str = "127.0.0.1") -> Guard:
    """The application behind `aloe view` for a run directory or a `trees.jsonl`. It answers requests to `host` and to
    the names of loopback.

    GET / is the page. GET /api/index?after=N lists trees after line N, with "more" if there are others; GET
    /api/tree?line=N returns one with its rejects; GET and POST /api/labels read and add labels; GET /api/agreement
    returns the kappas. GET /api/personas lists the run's profiles and personalities. GET /api/ratings?labeller=NAME
    offers a reply of the benchmark to rate, POST takes the rating and offers the next. Errors are {"error": sentence}.
    Raises InputError if there is neither a tree nor a persona.
    """
    api = _Api(Path(directory))
    app = Starlette(
        routes=[
            Route("/", api.page),
            Route("/api/index", api.index),
            Route("/api/tree", api.tree),
            Route("/api/personas", api.personas),
            Route("/api/labels", api.labels, methods=["GET"]),
            Route("/api/labels", api.add_label, methods=["POST"]),
            Route("/api/agreement", api.agreement),
            Route("/api/ratings", api.ratings, methods=["GET"]),
            Route("/api/ratings", api.add_rating, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )
    return Guard(app, policy=page().policy, hosts=HOSTS | {host})


class _Api:
    """The routes. Methods that are no coroutines run on threads of their own, so reading files blocks no request."""

    def __init__(self, directory: Path) -> None:
        self._name = directory.resolve().name
        self._trees = TreeIndex(directory)
        self._labels = LabelFile(TailedFile(self._trees.root / LABELS))
        self._labels_lock = threading.Lock()
        self._ratings: Ratings | None = None

    def page(self, request: Request) -> Response:
        return HTMLResponse(page().html)

    def index(self, request: Request) -> Response:
        after = _line(request, "after", "0")
        part = self._trees.part(after, PART)
        rejects = self._trees.reject_counts() if after == 0 else {}
        rate = after == 0 and bool(results_under(self._trees.root))
        found = {"name": self._name, **vars(part), "trees": list(map(vars, part.trees)), "rejects": rejects}
        personas = after == 0 and has_personas(self._trees.root)
        return _json({**found, "rate": rate, "personas": personas})

    def tree(self, request: Request) -> Response:
        line = _line(request, "line")
        tree = self._trees.tree(line)
        if tree is None:
            raise HTTPException(404, f"there is no tree on line {line}; the file has changed, load the list again")
        return _json({"tree": tree, "rejects": self._trees.rejects(tree["id"])})

    def personas(self, request: Request) -> Response:
        return _json({"pools": pools(self._trees.root)})

    def labels(self, request: Request) -> Response:
        with self._labels_lock:
            return _json({"labels": [asdict(label) for label in self._labels.last()]})

    def agreement(self, request: Request) -> Response:
        with self._labels_lock:
            return _json(report(self._labels.last()))

    def ratings(self, request: Request) -> Response:
        return self._offer(request.query_params.get("labeller"))

    async def add_rating(self, request: Request) -> Response:
        return await _posted(request, self._add_rating)

    def _add_rating(self, body: bytes) -> Response:
        from eval.viewer.ratings import RatingRequest

        with _refused():
            wanted = RatingRequest.of(parse(body))
        try:
            with self._labels_lock:
                self._rated().add(wanted)
        except InputError as error:
            raise HTTPException(400, str(error)) from None
        except (AloeError, OSError) as error:
            raise HTTPException(507, f"the rating was not written: {error}") from None
        return self._offer(wanted.labeller)

    def _offer(self, labeller: object) -> Response:
        try:
            with self._labels_lock:
                return _json(self._rated().offer(labeller_of(labeller)))
        except (InputError, OSError) as error:
            raise HTTPException(400, str(error)) from None

    def _rated(self) -> Ratings:
        """The ratings; their module is not imported before someone rates, so that the page is served sooner."""
        from eval.viewer.ratings import Ratings

        self._ratings = self._ratings or Ratings(self._trees.root)
        return self._ratings

    async def add_label(self, request: Request) -> Response:
        return await _posted(request, self._add_label)

    def _add_label(self, body: bytes) -> Response:
        with _refused():
            wanted = LabelRequest.of(parse(body))
            line = self._trees.line_of(wanted.conversation)
            tree = self._trees.tree(line) if line is not None else None
            if tree is None or tree["id"] != wanted.conversation:
                raise HTTPException(404, f"there is no conversation '{wanted.conversation}'")
            new = label(wanted, tree)
        try:
            with self._labels_lock:
                self._labels.append(new)
        except (AloeError, OSError) as error:
            raise HTTPException(507, f"the label was not written: {error}") from None
        return _json(asdict(new))


async def _posted(request: Request, add: Callable[[bytes], Response]) -> Response:
    """The answer of `add` to the body, on a thread of its own."""
    body = await read_body(request, MAX_BODY_BYTES)
    if body is None:
        raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return await run_in_threadpool(add, body)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Errors in a body that was sent, as answers."""
    try:
        yield
    except InputError as error:
        raise HTTPException(400, str(error)) from None
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None


def _line(request: Request, name: str, default: str = "") -> int:
    value = request.query_params.get(name, default)
    if not (value.isascii() and value.isdigit() and len(value) < 18):
        raise HTTPException(400, f"{name}={value!r} is not the number of a line")
    return int(value)


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    try:
        text = to_json(value)  # much faster than `json`
    except ValueError:  # a text may hold half of a surrogate pair, which UTF-8 cannot encode
        text = json.dumps(value, separators=(",", ":")).encode("ascii")
    return Response(text, status, headers, media_type="application/json")


# Starlette types handlers by the base class Exception; each is registered for the class that it narrows to.
async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    return _json({"error": "the viewer failed on this request; its terminal says why"}, 500)
