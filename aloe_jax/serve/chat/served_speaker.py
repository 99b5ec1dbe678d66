"""Who replies in `aloe chat --url`: a model of an OpenAI-compatible server.

It is read on the thread that asks, so that Ctrl-C ends the request at once; the stages' client (`serve/client`), which
makes many calls at a time, waits for whole replies.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import IO, Any
from urllib.parse import urlsplit

from aloe_jax import files
from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.chat.speaker import Piece
from aloe_jax.serve.client.constraints import SCHEMA_FORMS
from aloe_jax.serve.client.exchange import certificates
from aloe_jax.tree.schema import Message

SECONDS = 300.0  # without a byte from the server
LARGEST = 1 << 20  # bytes of an answer that is no stream, and of a line of one


class ServedSpeaker:
    """Replies of `model` behind `url` (which ends with /v1), the server's first one if None. `sampling` are fields of
    the requests. Raises InputError if the server cannot be reached or does not have the model."""

    def __init__(
        self, url: str, model: str | None, sampling: Mapping[str, object], *, seed: int = 0, key: str = ""
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InputError(f"--url={url} is no address of a server; expected one such as http://127.0.0.1:8000/v1")
        self._url, self._key, self._seed = url.rstrip("/"), key, seed
        self._sampling = dict(sampling)
        context = urllib.request.HTTPSHandler(context=certificates())
        self._opener = urllib.request.build_opener(_NoRedirect, context)
        cards = self._cards()
        names = [str(card.get("id")) for card in cards]
        if not names or model not in (None, *names):
            raise InputError(f"{self._url} does not serve '{model}'; it has {', '.join(names) or 'no model'}")
        self.name = model or names[0]
        # Others refuse fields that they do not know.
        self._gives_ids = bool(cards[names.index(self.name)].get("tokenizer_hash"))

    def pieces(self, messages: Sequence[Message], extra_seed: int) -> Generator[Piece]:
        fields: dict[str, object] = {**self._sampling, "seed": self._seed + extra_seed}
        if self._gives_ids:
            fields |= {"logprobs": True, "return_token_ids": True}
        yield from self._said(messages, fields)

    def constrained(self, messages: Sequence[Message], schema: Mapping[str, object]) -> str:
        # Without a limit of tokens an answer ends with the schema, or fills the context.
        fields = {"temperature": 0} | SCHEMA_FORMS["response_format"](schema)
        return "".join(piece.text for piece in self._said(messages, fields))

    def _said(self, messages: Sequence[Message], fields: Mapping[str, object]) -> Generator[Piece]:
        """The reply to a request with these fields, as it comes."""
        body = {
            "model": self.name,
            "messages": [message.model_dump() for message in messages],
            **fields,
            "stream": True,
        }
        finished = False
        with self._opened("/chat/completions", body) as response:
            try:
                for data in _events(response):
                    piece = _piece(data)
                    if piece is not None:
                        finished = finished or piece.finish_reason is not None
                        yield piece
            except (OSError, http.client.HTTPException) as error:
                raise AloeError(f"the connection was lost in the middle of the reply ({error})") from None
        if not finished:
            raise AloeError("the connection was lost in the middle of the reply")

    def _cards(self) -> list[Mapping[str, Any]]:
        with self._opened("/models") as response:
            answer = _parsed(response.read(LARGEST).decode("utf-8", "replace"))
        cards = answer.get("data")
        if not isinstance(cards, list) or not all(isinstance(card, dict) for card in cards):
            raise InputError(f"{self._url}/models is no list of models; expected an OpenAI-compatible server")
        return cards

    @contextlib.contextmanager
    def _opened(self, path: str, body: Mapping[str, object] | None = None) -> Iterator[IO[bytes]]:
        """The response to a request. Raises InputError with the server's reason where it refuses."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self._url + path, data, headers)
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        try:
            response = self._opener.open(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise InputError(f"{self._url}{path} refused ({error.code}): {_reason(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise InputError(f"{self._url} cannot be reached ({why}); start the server, or check --url") from None
        with response:
            yield response


_HINTS = {
    401: "; set the environment variable ALOE_API_KEY to the server's key",
    404: "; such an address ends with /v1 as a rule",
}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address is refused: the key and the dialogue are for this one."""

    def redirect_request(self, *_: object) -> None:
        return None


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says of its refusal."""
    if 300 <= error.code < 400:
        return f"it redirects to {error.headers.get('Location')}; give that address to --url"
    with contextlib.suppress(InputError, OSError, http.client.HTTPException):
        said = _parsed(error.read(LARGEST).decode("utf-8", "replace")).get("error")
        if isinstance(said, dict) and said.get("message"):
            return str(said["message"])
    return f"{error.reason}{_HINTS.get(error.code, '')}"


def _events(response: IO[bytes]) -> Iterator[str]:
    """The data of each server-sent event, up to [DONE]."""
    while line := response.readline(LARGEST):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if name == "data" and value.strip() == "[DONE]":
            return
        if name == "data":
            yield value.strip()


def _piece(data: str) -> Piece | None:
    """The piece in an event, None if it has none. Raises AloeError for an error that the server reports in it."""
    chunk = _parsed(data)
    if error := chunk.get("error"):
        raise AloeError(f"the server failed: {error.get('message') if isinstance(error, dict) else error}")
    choices = chunk.get("choices") or []
    if not choices:
        return None
    choice = choices[0]
    entries = (choice.get("logprobs") or {}).get("content") or []
    return Piece(
        text=(choice.get("delta") or {}).get("content") or "",
        token_ids=tuple(choice.get("token_ids") or ()),
        log_probs=tuple(entry["logprob"] for entry in entries),
        finish_reason=choice.get("finish_reason"),
        tokenizer=chunk.get("tokenizer_hash"),
    )


def _parsed(text: str) -> dict[str, Any]:
    value = files.parse_json(text, "the server's answer")
    if not isinstance(value, dict):
        raise InputError(f"the server's answer is {type(value).__name__}; expected a JSON object")
    return value
