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

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from aloe_jax.decode.requests import MAX_SEED, MAX_TOP_K, MAX_TOP_LOGPROBS, Constraint
from aloe_jax.serve.protocol.constraints import ResponseFormat, StructuredOutputs
from aloe_jax.serve.protocol.usage import StreamOptions, Usage
from aloe_jax.tree.schema import Message, content_text

MAX_CHOICES = 128


class ChatMessage(Message):
    """A message as clients send it: the content is a string or a list of text parts, which are joined as in training
    data."""

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, value: object) -> object:
        return content_text(value) if isinstance(value, list) else value


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
