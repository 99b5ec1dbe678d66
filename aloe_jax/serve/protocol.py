"""The part of the OpenAI chat-completions protocol that the server speaks and the client reads, as records.

A request field that would change the answer and cannot be honoured is refused by name; it is never dropped silently.
Three extensions follow vLLM: `top_k`, `return_token_ids`, which adds the sampled ids to every choice, and
`structured_outputs`, which holds a reply to a list of choices, a regex or a JSON schema. One is our own:
`tokenizer_hash` beside the ids says which tokenizer they belong to.

**Probabilities of choices.** Log-probabilities are those of the model at temperature 1, without filters and without the
constraint; `top_logprobs` lists the most probable of the tokens that the constraint allows. So send
`structured_outputs: {"choice": [...]}` with `logprobs: true, top_logprobs: 20`, and take the first token of the reply:
for each choice add up exp(logprob) of the listed tokens whose text the choice begins with, and divide by the sum over
all choices. With choices that begin with different characters, every listed token belongs to one of them, and this is
the probability with which each is drawn at temperature 1, as long as at most 20 tokens begin a choice (a letter, or a
short word: "yes" may also begin as "y" or "ye"). Where a token begins two choices, the reply has to continue before
they part, and the first token does not distinguish them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from aloe_jax import files
from aloe_jax.decode.requests import MAX_SEED, MAX_TOP_K, MAX_TOP_LOGPROBS, Constraint
from aloe_jax.tree.schema import Message, content_text

MAX_CHOICES = 128

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


class ApiError(Exception):
    """A refusal with its HTTP status and the fields of an OpenAI error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = {"error": {"message": message, "type": type, "param": param, "code": code}}


class ChatMessage(Message):
    """A message as clients send it: the content is a string or a list of text parts, which are joined as in training
    data."""

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, value: object) -> object:
        return content_text(value) if isinstance(value, list) else value


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    include_usage: bool = False


class StructuredOutputs(BaseModel):
    """The constraint on a reply, as vLLM spells it: exactly one of the three is given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    choice: list[str] | None = Field(None, min_length=1)
    regex: str | None = None
    json_schema: dict[str, object] | None = Field(None, alias="json")

    @model_validator(mode="after")
    def _one(self) -> StructuredOutputs:
        given = [name for name in ("choice", "regex", "json_schema") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("expected exactly one of choice, regex and json")
        return self

    @property
    def constraint(self) -> Constraint:
        if self.json_schema is not None:
            return Constraint.json(self.json_schema)
        return Constraint(choices=None if self.choice is None else tuple(self.choice), regex=self.regex)


class NamedSchema(BaseModel):
    """A JSON schema as OpenAI wraps it. It is always enforced, also with `strict: false`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    schema_: dict[str, object] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """The form of a reply, as OpenAI spells it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _schema_where_named(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema is given with type json_schema, and with no other")
        return self

    @property
    def constraint(self) -> Constraint | None:
        if self.type == "text":
            return None
        return Constraint.json({"type": "object"} if self.json_schema is None else self.json_schema.schema_)


class ChatRequest(BaseModel):
    """Body of POST /v1/chat/completions. Sampling fields that are left out take OpenAI's defaults; without a length
    limit a reply may fill the context."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    temperature: float = Field(1.0, ge=0.0, le=2.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=-1, le=MAX_TOP_K, description="0 and -1 switch the filter off")
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_TOP_LOGPROBS)
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = False

    @model_validator(mode="after")
    def _one_limit(self) -> ChatRequest:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError(
                f"max_tokens is {self.max_tokens} but max_completion_tokens is {self.max_completion_tokens}; send one"
            )
        return self

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, value: int, info: ValidationInfo) -> int:
        if value and not info.data.get("logprobs"):
            raise ValueError("only together with logprobs: true")
        return value

    @field_validator("structured_outputs")
    @classmethod
    def _one_constraint(cls, value: StructuredOutputs | None, info: ValidationInfo) -> StructuredOutputs | None:
        other = info.data.get("response_format")
        if value is not None and other is not None and other.constraint is not None:
            raise ValueError(f"response_format is {other.type} already; send one constraint")
        return value

    @property
    def constraint(self) -> tuple[str, Constraint] | None:
        """The name of the field that constrains the reply, and the constraint; None leaves the reply free."""
        for field in ("structured_outputs", "response_format"):
            value = getattr(self, field)
            if value is not None and value.constraint is not None:
                return field, value.constraint
        return None

    @property
    def limit(self) -> int | None:
        """Maximum of a reply's tokens, end-of-turn included; None leaves it to the context."""
        return self.max_tokens if self.max_tokens is not None else self.max_completion_tokens


class TopLogprob(BaseModel):
    """A token and its natural log-probability; `bytes` is null where the token is a piece of a character."""

    token: str = ""
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(TopLogprob):
    """A sampled token, and the most probable ones at its place."""

    top_logprobs: list[TopLogprob] = []


class Logprobs(BaseModel):
    content: list[TokenLogprob] | None = None


class ReplyMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None


class Choice(BaseModel):
    """One completion. `token_ids` and `logprobs.content` have an entry per token and include the end-of-turn token
    unless `finish_reason` is "length"; the text never does."""

    index: int = 0
    message: ReplyMessage
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ChatResponse(BaseModel):
    """Answer to a chat completion; `aloe_jax/serve/client/response.py` reads those of any server."""

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    model: str = ""
    choices: list[Choice]
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None
    tokenizer_hash: str | None = None


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
