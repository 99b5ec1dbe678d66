"""The page at `/` of `aloe serve`, and the file that its conversations are saved in."""

from __future__ import annotations

import functools
import html
import json
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.pages.scripted import SHARED, Page, scripted_page
from aloe_jax.serve.catalogue import Catalogue
from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.server.access import Access
from aloe_jax.serve.trees_file import TreesFile, conversation
from aloe_jax.tree.probe import QUESTION, schema

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = (
    "model.js",
    "stream.js",
    "tokens.js",
    "picture.js",
    "turns.js",
    "settings.js",
    "talk.js",
    "belief.js",
    "files.js",
    "main.js",
)


@functools.cache
def page(key: bool, saving: bool, items: tuple[tuple[str, str], ...] | None = None) -> Page:
    """The page with its policy; `key` is whether the server wants one, `saving` whether it keeps conversations, and
    `items` are the ids and texts of what models may name as learned about the visitor; None: free sentences."""
    scripts = [SHARED / "dom.js", SHARED / "place.js", *(_FOLDER / name for name in _SCRIPTS)]
    found = scripted_page(_FOLDER / "page.html", [SHARED / "base.css", _FOLDER / "style.css"], scripts)
    texts = dict(items or ())
    probe = {"question": QUESTION, "schema": schema(None if items is None else tuple(texts), 1), "texts": texts}
    text = found.html.replace('data-probe=""', f'data-probe="{html.escape(json.dumps(probe))}"', 1)
    for name, value in (("data-key", key), ("data-save", saving)):
        text = text.replace(f'{name}="no"', f'{name}="{"yes" if value else "no"}"', 1)
    return found._replace(html=text)


def routes(access: Access, trees: TreesFile | None, catalogue: Catalogue | None = None) -> list[Route]:
    """GET / is the page, which needs no key as it holds nothing. POST /trees adds a conversation to `trees`; without a
    file it is refused."""
    items = None if catalogue is None else tuple(catalogue.items())

    def show(http: HttpRequest) -> Response:
        found = page(access.wants_key, trees is not None, items)
        return HTMLResponse(found.html, headers={"Content-Security-Policy": found.policy})

    async def save(http: HttpRequest) -> Response:
        body = await access.body(http)
        if trees is None:
            raise ApiError(403, "this server saves no conversations; start it with --save-trees=FILE", code="forbidden")
        return JSONResponse(await run_in_threadpool(_save, trees, body))

    return [Route("/", show), Route("/trees", save, methods=["POST"])]


def _save(trees: TreesFile, body: bytes) -> dict[str, object]:
    try:
        tree = conversation(body.decode())
    except UnicodeDecodeError:
        raise ApiError(400, "the conversation is not UTF-8 text") from None
    except InputError as error:
        raise ApiError(400, str(error)) from None
    try:
        replaced = trees.add(tree)
    except (InputError, ResumableError) as error:
        raise ApiError(507, f"the conversation was not saved: {error}", type="server_error") from None
    return {"file": trees.path.name, "conversations": len(trees), "replaced": replaced}
