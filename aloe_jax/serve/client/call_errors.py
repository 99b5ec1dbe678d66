"""A call that got no answer while its server answers others: the failure of that call, and of no more than what it was
made for. Whatever ends a whole run is a plain InputError or ResumableError."""

from __future__ import annotations

from aloe_jax.errors import AloeError, InputError, ResumableError


class CallError(AloeError):
    """A call without an answer. `kind` is the reason in a few words, by which such calls are counted."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind or "no answer"


class RefusedCallError(CallError, InputError):
    """The server refuses this request for good."""


class FailedCallError(CallError, ResumableError):
    """The server failed on this request at every attempt, and answers others."""
