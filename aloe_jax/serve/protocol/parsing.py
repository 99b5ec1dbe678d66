"""From a body to a request: what is neutral passes, what cannot be honoured is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from aloe_jax import files
from aloe_jax.serve.protocol.errors import ApiError

R = TypeVar("R", bound=BaseModel)

# Fields about billing, storage or transport: they do not change which tokens are drawn.
HARMLESS = frozenset(
    {
        "cache_salt",
        "metadata",
        "parallel_tool_calls",
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)

# Fields that an endpoint does not have, with the values under which it does the same. `null` is one everywhere.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (False,),
    "audio": (),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "early_stopping": (False,),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "length_penalty": (1,),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "prompt_logprobs": (),
    "reasoning_effort": (),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "verbosity": (),
    "web_search_options": (),
}
# Fields of several types, whose errors name one for each.
EXPECTED = {
    "prompt": "expected a text, token ids, or a list of either",
    "stop": "expected a text, or at most 16 texts that are not empty",
}


def json_object(body: bytes) -> dict[str, object]:
    """The fields of a body that are not null. Raises ApiError (400) if it is no JSON object."""
    try:
        data = files.loads(body.decode())
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ApiError(400, f"the body must be a JSON object, found {type(data).__name__}")
    return {name: value for name, value in data.items() if value is not None}


def parse_request(body: bytes, kind: type[R]) -> R:
    """The request of a kind in a body. Raises ApiError (400) naming the first field that is wrong or not supported."""
    fields = {name: value for name, value in json_object(body).items() if name not in HARMLESS}
    for name in [name for name in fields if name not in kind.model_fields]:
        _check_neutral(name, fields.pop(name))
    return validated(fields, kind)


def validated(fields: Mapping[str, object], kind: type[R]) -> R:
    """The request of these fields, without null and unsupported ones. Raises ApiError (400) naming the first field that
    is wrong."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error) from None


def _check_neutral(name: str, value: object) -> None:
    if name not in NEUTRAL:
        short = " ".join(name[:80].split())
        raise ApiError(400, f"unknown field '{short}'; leave it out", code="unknown_parameter", param=short)
    if value in NEUTRAL[name]:
        return
    accepted = "".join(f" or send {choice!r}" for choice in NEUTRAL[name])
    message = f"field '{name}' = {str(value)[:80]!r} is not supported by this endpoint; leave it out{accepted}"
    raise ApiError(400, message, code="unsupported_parameter", param=name)


def _refusal(error: ValidationError) -> ApiError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    if first["loc"] and (union := str(first["loc"][0])) in EXPECTED and first["type"] != "missing":
        return ApiError(400, f"field '{union}': {EXPECTED[union]}", param=union)
    # The value of a missing field, or of the whole body, is its container: no help in a message.
    found = "" if first["type"] == "missing" or not field else f", found {str(first['input'])[:80]!r}"
    return ApiError(400, f"field '{field}': {reason}{found}" if field else reason, param=field or None)
