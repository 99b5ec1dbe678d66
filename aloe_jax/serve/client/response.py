"""Reading a chat completion: what is needed of it is required, whatever else is absent, null or odd is left aside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from aloe_jax.serve.protocol.usage import Usage
from aloe_jax.tree.schema import content_text

NO_REASON = "unknown"


def _number(value: object) -> int:
    """A count of tokens; 0 where it is none."""
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) and value > 0 else 0


def _usage(value: object) -> Usage | None:
    if not isinstance(value, Mapping):
        return None
    return Usage.model_validate({name: _number(value.get(name)) for name in Usage.model_fields})


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _optional_text(value: object) -> str | None:
    return None if not isinstance(value, str) else str(_without_halves(value))


def _without_halves(value: object) -> object:
    """A token's text with U+FFFD for half of a surrogate pair: a token may end inside a character."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


class _Part(BaseModel):
    """A part of a response: a null field counts as absent."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: object) -> object:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class GivenToken(_Part):
    """A token and its log-probability."""

    token: Annotated[str, BeforeValidator(_without_halves)] = ""
    logprob: float


def _possible(value: object) -> object:
    """The listed tokens that have a probability; a constraint leaves others without one (null, -Infinity)."""
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict) and _finite(each.get("logprob"))]


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class GivenTokens(GivenToken):
    """A sampled token, and the most probable ones at its place."""

    top_logprobs: Annotated[list[GivenToken], BeforeValidator(_possible)] = []


class GivenLogprobs(_Part):
    """The sampled tokens."""

    content: list[GivenTokens] | None = None


class GivenMessage(_Part):
    """What the model said. `thought` is what it thought before, where the server separates that."""

    content: str = ""
    thought: str = ""
    refusal: Annotated[str, BeforeValidator(_text)] = ""

    @model_validator(mode="before")
    @classmethod
    def _joined(cls, data: object) -> object:
        """The message with its parts joined and its thoughts under one name."""
        if not isinstance(data, dict):
            return data
        content = data.get("content")
        thought = data.get("reasoning_content") or data.get("reasoning")
        if isinstance(content, list):
            thoughts = [part for part in content if isinstance(part, dict) and part.get("type") in _THOUGHTS]
            texts = [part for part in content if part not in thoughts]
            content = content_text(texts) if texts else ""
            thought = thought or (json.dumps(thoughts) if thoughts else "")
        return {**data, "content": content, "thought": _text(thought)}


_THOUGHTS = ("thinking", "reasoning")


class GivenChoice(_Part):
    """One completion. `finish_reason` is None where there is none, and `NO_REASON` where it is null or no text."""

    index: Annotated[int, BeforeValidator(_number)] = 0
    message: GivenMessage
    logprobs: GivenLogprobs | None = None
    finish_reason: Annotated[str | None, BeforeValidator(_optional_text)] = None
    token_ids: list[int] | None = None

    @model_validator(mode="before")
    @classmethod
    def _unfinished(cls, data: object) -> object:
        unfinished = isinstance(data, dict) and not isinstance(data.get("finish_reason", ""), str)
        return {**data, "finish_reason": NO_REASON} if isinstance(data, dict) and unfinished else data


class GivenResponse(_Part):
    """A chat completion."""

    model: Annotated[str, BeforeValidator(_text)] = ""
    choices: list[GivenChoice]
    usage: Annotated[Usage | None, BeforeValidator(_usage)] = None
    tokenizer_hash: Annotated[str | None, BeforeValidator(_optional_text)] = None


def parsed_response(content: bytes) -> GivenResponse | str:
    """The response in a body, choices in order, or what is wrong with it."""
    try:
        response = GivenResponse.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{f'{place}: ' if place else ''}{first['msg'].removeprefix('Value error, ')}"
    except RecursionError:
        return "its JSON is nested too deeply"
    except ValueError as error:
        return str(error)
    return response.model_copy(update={"choices": sorted(response.choices, key=lambda choice: choice.index)})


def first_words(content: bytes) -> str:
    """The start of a body on one line."""
    return one_line(content[:200].decode(errors="replace"))


def one_line(text: str) -> str:
    """The text on one line, without characters that no terminal shows."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def halved(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which no file can store."""
    return any("\ud800" <= character <= "\udfff" for character in text)
