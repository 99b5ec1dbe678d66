"""What a server says instead of an answer, in one sentence with its own words, and what follows from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.client.answers import Failure
from aloe_jax.serve.client.call_errors import RefusedCallError
from aloe_jax.serve.client.constraints import parsed
from aloe_jax.serve.client.response import first_words, one_line

# Where a server asks for a longer pause than this, the command is better run again later.
LONGEST_RETRY_AFTER = 600.0
# Refusals that pass by themselves; so does every 5xx.
PASSING = frozenset({408, 425, 429})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Codes of a used-up budget, which no pause brings back.
_QUOTA = re.compile(
    r"insufficient[_ ](quota|funds|credits?|balance)|exceeded your current quota|plan and billing", re.IGNORECASE
)
# Request fields without which an answer is the same, or nearly so; `max_tokens` is sent under its later name.
OPTIONAL = ("return_token_ids", "top_logprobs", "logprobs", "seed", "n", "max_tokens", "temperature", "top_p")
_ONLY_AT = {"temperature": 1.0, "top_p": 1.0}  # left out only where that changes nothing
_UNKNOWN = (
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed|forbidden|invalid"
)
_WORDS, _LONG = 200, 1000  # characters of a body and of an error's message that are shown


class RawResponse(NamedTuple):
    """Status, body and some headers of an HTTP response, None where they are absent."""

    status: int
    content: bytes
    retry_after: str | None = None
    content_type: str = ""
    location: str | None = None

    @property
    def passing(self) -> bool:
        """Whether the refusal passes by itself."""
        return (self.status >= 500 or self.status in PASSING) and not self.quota

    @property
    def quota(self) -> bool:
        """Whether the budget of the key is used up."""
        said = self.content[:4000].decode(errors="replace")
        return self.status == 402 or (self.status in (403, 429) and _QUOTA.search(said) is not None)


class ErrorObject(NamedTuple):
    """The parts of an OpenAI error object that a body has."""

    message: str = ""
    code: str = ""
    param: str = ""


def error_object(content: bytes) -> ErrorObject:
    """The error in a body, whatever its shape; else the start of the body as the message."""
    data = parsed(content)
    if data is None:
        return ErrorObject(first_words(content))
    error = data.get("error") or data.get("detail") or data if isinstance(data, dict) else data
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, str):
        return ErrorObject(one_line(error[:_LONG]))
    if not isinstance(error, dict):
        return ErrorObject(json.dumps(error, ensure_ascii=True)[:_WORDS])
    message = error.get("message") or error.get("msg")
    place = error.get("loc")
    param = error.get("param") or (place[-1] if isinstance(place, list) and place else "")
    inner = error.get("innererror")
    code = (inner.get("code") if isinstance(inner, dict) else None) or error.get("code") or ""
    return ErrorObject(
        one_line(message[:_LONG]) if isinstance(message, str) else json.dumps(error, ensure_ascii=True)[:_WORDS],
        str(code) if isinstance(code, (str, int)) else "",
        param if isinstance(param, str) else "",
    )


def error_inside(raw: RawResponse) -> RawResponse | None:
    """The refusal that a body of status 200 is, under the status that it names itself (500 if it names none); None if
    it is none."""
    data = parsed(raw.content)
    if not isinstance(data, dict) or data.get("choices"):
        return None
    if not (data.get("error") or data.get("object") == "error" or "detail" in data):
        return None
    code = error_object(raw.content).code
    return raw._replace(status=int(code) if re.fullmatch("[45]\\d\\d", code) else 500)


def no_json(raw: RawResponse, address: str) -> str | None:
    """The sentence about a body that is a page for people, or a stream, and no answer; None if it is neither."""
    kind = _kind(raw)
    if raw.content[:200].lstrip().startswith(b"{"):
        return None  # JSON under another name
    if kind == "text/event-stream" or raw.content.startswith((b"data:", b"event:")):
        return "the server streams its answer, which was not requested; switch that off there"
    if "html" not in kind and not raw.content[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return None
    said = (
        f"the server answers {raw.status} with {kind or 'a page'} where JSON was expected: {first_words(raw.content)}"
    )
    return f"{said}; {_other_address(address)}"


def _kind(raw: RawResponse) -> str:
    return raw.content_type.partition(";")[0].strip().lower()


def refusal(
    raw: RawResponse, body: Mapping[str, object], address: str, key_env: str, now: float, known: bool
) -> Failure:
    """The Failure that a status other than 200 means. `known` is whether the server has answered other calls."""
    error = error_object(raw.content)
    shape = f" with {_kind(raw)}" if "html" in _kind(raw) else ""
    said = f"the server answers {raw.status}{shape}" + (f": {error.message}" if error.message else "")
    kind = f"{raw.status} {error.code}" if error.code and error.code != str(raw.status) else str(raw.status)
    if raw.quota:
        reason = f"{said}; the budget of the key in {key_env} is used up, raise it and run the same command again"
        return Failure(reason, again=False, server=False, kind=kind)
    if raw.passing:
        wait = seconds(raw.retry_after, now)
        if wait is not None and wait > LONGEST_RETRY_AFTER:
            return Failure(
                f"{said}; its Retry-After is {wait:.0f} seconds, run the command then", again=False, kind=kind
            )
        return Failure(said, retry_after=wait, server=raw.status >= 500, load=raw.status == 429, kind=kind)
    # A server that has answered others refuses this request; one that has answered nothing is a wrong server.
    final: type[AloeError] = RefusedCallError if known else InputError
    if raw.status == 401 or (raw.status == 403 and not known):
        reason = f"{said}; check the key in the environment variable {key_env}"
        return Failure(reason, again=False, error=InputError, server=False)
    if raw.status in REDIRECTS and raw.location:
        hint = f"it redirects to {raw.location}; set base_url to where that is served"
        return Failure(f"{said}; {hint}", again=False, error=final, server=False, kind=kind)
    if raw.status in (404, 405):
        return Failure(f"{said}; {_other_address(address)}", again=False, error=final, server=False, kind=kind)
    if raw.status in (400, 422) and (name := refused_field(error, body)) is not None:
        if name in _ONLY_AT and body.get(name) != _ONLY_AT[name]:
            hint = f"set config.roles.ROLE.{name} to {_ONLY_AT[name]:g}, where it is left out"
            return Failure(
                f"{said}; {hint}", again=False, error=InputError, refused_value=name, server=False, kind=kind
            )
        return Failure(said, refused_field=name, server=False, kind=kind)
    return Failure(said, again=False, error=RefusedCallError, server=False, kind=kind)


def refused_field(error: ErrorObject, body: Mapping[str, object]) -> str | None:
    """The optional field of the request that an error refuses as such; None if it is about something else."""
    present = [name for name in OPTIONAL if name in body]
    if error.param in present and _is_unknown(error, error.param):
        return error.param
    return next((name for name in present if _named(name, error.message) and _is_unknown(error, name)), None)


def _named(name: str, message: str) -> bool:
    """Whether a message names the field: anywhere if its name has an underscore, else in quotes or as what it is."""
    if "_" in name or name in ("logprobs", "seed", "temperature"):
        return re.search(rf"(?<![\w]){name}(?![\w])", message) is not None
    return (
        re.search(rf"['\"`]{name}['\"`]|\b(argument|parameter|field|name)s?\b\W+{name}\b|^{name}\b", message)
        is not None
    )


def _is_unknown(error: ErrorObject, name: str) -> bool:
    """Whether the field itself is refused, and not its value or the length of the request."""
    if name == "max_tokens":
        return (
            "max_completion_tokens" in error.message
            or re.search("unsupported_param|unknown_param", error.code) is not None
        )
    if name == "n":
        return True
    said = f"{error.code} {error.message}"
    return (
        name.endswith("logprobs") or name == "return_token_ids" or re.search(_UNKNOWN, said, re.IGNORECASE) is not None
    )


def _other_address(address: str) -> str:
    if address.endswith("/chat/completions"):
        return f"leave /chat/completions out of base_url: {address.removesuffix('/chat/completions')}"
    if not re.search(r"/v\d+", address):
        return f"did you mean {address}/v1 as base_url?"
    return "check base_url, and the model's name"


def seconds(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header (a number or an HTTP date) asks for; None if it cannot be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None
