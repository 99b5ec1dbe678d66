"""From a body to a request: what is neutral passes, what cannot be honoured is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from aloe_jax import files
from aloe_jax.serve.protocol.chat import ChatRequest
from aloe_jax.serve.protocol.errors import ApiError

# Fields about billing, storage or transport: they do not change which tokens are drawn.
HARMLESS = frozenset(
    {
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

# Fields that are not implemented, with the values under which the server does the same. `null` is one everywhere.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "add_generation_prompt": (True,),
    "audio": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "logit_bias": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "repetition_penalty": (1,),
    "skip_special_tokens": (True,),
    "stop": ([], ""),
    "stop_token_ids": ([],),
    "tool_choice": ("none",),
    "tools": ([],),
    "use_beam_search": (False,),
    "verbosity": (),
    "web_search_options": (),
}


def parse_request(body: bytes) -> ChatRequest:
    """The request in a body. Raises ApiError (400) naming the first field that is wrong or not supported."""
    try:
        data = files.loads(body.decode())
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ApiError(400, f"the body must be a JSON object, found {type(data).__name__}")
    fields = {name: value for name, value in data.items() if value is not None and name not in HARMLESS}
    if isinstance(fields.get("messages"), list):
        fields["messages"] = [_without_nulls(message) for message in fields["messages"]]
    for name in [name for name in fields if name not in ChatRequest.model_fields]:
        _check_neutral(name, fields.pop(name))
    return validated(fields)


def validated(fields: Mapping[str, object]) -> ChatRequest:
    """The request of these fields, without null and unsupported ones. Raises ApiError (400) naming the first field that
    is wrong."""
    try:
        return ChatRequest.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error) from None


def _without_nulls(message: object) -> object:
    """A message without null fields: SDKs return the assistant message they received, with `refusal: null` and such."""
    if not isinstance(message, dict):
        return message
    return {name: value for name, value in message.items() if value is not None}


def _check_neutral(name: str, value: object) -> None:
    if name not in NEUTRAL:
        raise ApiError(400, f"unknown field '{name}'; leave it out", code="unknown_parameter", param=name)
    if value in NEUTRAL[name]:
        return
    accepted = "".join(f" or send {choice!r}" for choice in NEUTRAL[name])
    message = f"field '{name}' = {str(value)[:80]!r} is not supported by this server; leave it out{accepted}"
    raise ApiError(400, message, code="unsupported_parameter", param=name)


def _refusal(error: ValidationError) -> ApiError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    # The value of a missing field, or of the whole body, is its container: no help in a message.
    found = "" if first["type"] == "missing" or not field else f", found {str(first['input'])[:80]!r}"
    return ApiError(400, f"field '{field}': {reason}{found}" if field else reason, param=field or None)
