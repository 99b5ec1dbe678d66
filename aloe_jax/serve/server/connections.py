"""The HTTP/1.1 connections of a server: how many there may be, and how long a client may take over a request.

uvicorn waits for ever for the rest of a header or a body, and for a client to read its response, so a few idle clients
could hold every connection (slow loris). It answers what is not HTTP with plain text, clients of an API expect JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from aloe_jax.settings import setting

HEADER_BYTES = 16 * 1024  # the line of a request and its headers

ErrorBody = Callable[[int, str], object]


@dataclass(frozen=True)
class ConnectionLimits:
    """What a client may hold, and for how long."""

    most: int = setting(512, "open connections; further ones are refused with 503", minimum=1)
    header_seconds: float = setting(10.0, "until a request's header is complete", above=0)
    body_seconds: float = setting(60.0, "until its body is complete", above=0)
    read_seconds: float = setting(60.0, "that a client may read nothing of a response that waits for it", above=0)


def plain_error(status: int, sentence: str) -> object:
    """The body of an error, as the pages of this project read it."""
    return {"error": sentence}


def limited_protocol(limits: ConnectionLimits, error: ErrorBody) -> type[asyncio.Protocol]:
    """uvicorn's protocol class with limits; `error` makes the body of a refusal."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits, "error": staticmethod(error)})


class _LimitedProtocol(H11Protocol):
    """A connection. Which part of a request is missing, h11 says: the client is IDLE until a header is complete, and in
    SEND_BODY until the body is. The time for a part counts from its beginning, however often a byte comes."""

    limits: ConnectionLimits
    error: ErrorBody

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._part: object = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        if len(self.connections) >= self.limits.most:
            self.transport = transport
            self._refuse(503, f"{self.limits.most} connections are open already; close some or try again later")
            return
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in filter(None, (self._timer, self._unread)):
            timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 could not read; called while its error is handled, which says how to answer."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        if status == 431:
            self._refuse(
                431, f"the header of the request is larger than {HEADER_BYTES} bytes; send fewer or shorter fields"
            )
        else:
            self._refuse(status, "this is no valid HTTP/1.1 request")

    def _look_again(self, unread: int) -> None:
        self._unread = self.loop.call_later(self.limits.read_seconds, self._check_reading, unread)

    def _check_reading(self, before: int) -> None:
        """Abort a connection whose client has read nothing since there were `before` bytes to send."""
        unread = self.transport.get_write_buffer_size()
        if unread < before:
            self._look_again(unread)
        else:
            self.transport.abort()

    def _watch(self) -> None:
        """Start the time for the part of a request that is missing now, unless it runs already."""
        part = self.conn.their_state if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) else None
        key = part and (part, self.cycle)  # a connection has a cycle per request
        if key == self._part:
            return
        self._part = key
        if self._timer is not None:
            self._timer.cancel()
        seconds = {h11.IDLE: self.limits.header_seconds, h11.SEND_BODY: self.limits.body_seconds}
        self._timer = self.loop.call_later(seconds[part], self._expire, part, seconds[part]) if part else None

    def _expire(self, part: object, seconds: float) -> None:
        begun = part is h11.SEND_BODY or self.conn.trailing_data[0]
        if begun:
            what = "body" if part is h11.SEND_BODY else "header"
            self._refuse(408, f"the {what} of the request was not complete after {seconds:g} seconds")
        else:
            self.transport.close()

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer with an error, if the response has not begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(self.error(status, sentence)).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            reason = HTTPStatus(status).phrase.encode()
            for event in (h11.Response(status_code=status, headers=headers, reason=reason), h11.Data(data=body)):
                self.transport.write(self.conn.send(event) or b"")
            self.conn.send(h11.EndOfMessage())
        if self.cycle is not None:  # the application learns it before it can answer too
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
