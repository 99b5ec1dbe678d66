"""The fields that chat and text completions share: how tokens are drawn, when a reply ends, what comes back of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from aloe_jax.decode.requests import (
    LEAST_REPETITION,
    MAX_BIASES,
    MAX_SEED,
    MAX_STOP_TOKENS,
    MAX_TOP_K,
    MIN_SEED,
    MOST_REPETITION,
    Constraint,
    Sampling,
)
from aloe_jax.serve.protocol.constraints import ResponseFormat, StructuredOutputs
from aloe_jax.serve.protocol.usage import StreamOptions

MAX_CHOICES = 128
MAX_STOPS = 16
LONGEST_STOP = 1000

StopString = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]


class SamplingFields(BaseModel):
    """Fields of a request that say how to complete a prompt. What is left out takes OpenAI's default, or changes
    nothing. Penalties, biases and filters are applied as `Sampling` says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str = Field(description="name of a served model")
    temperature: float = Field(1.0, ge=0.0, le=2.0, description="0 takes the most probable token")
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=-1, le=MAX_TOP_K, description="0 and -1 switch the filter off")
    min_p: float = Field(0.0, ge=0.0, le=1.0)
    presence_penalty: float = Field(0.0, ge=-2.0, le=2.0)
    frequency_penalty: float = Field(0.0, ge=-2.0, le=2.0)
    repetition_penalty: float = Field(1.0, ge=LEAST_REPETITION, le=MOST_REPETITION)
    logit_bias: dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]] = Field(
        {},
        max_length=MAX_BIASES,
        description="token ids, written as strings, to what is added to their logits",
        json_schema_extra={"propertyNames": {"pattern": "^[0-9]{1,10}$"}},
    )
    seed: int | None = Field(None, ge=MIN_SEED, le=MAX_SEED)
    n: int = Field(1, ge=1, le=MAX_CHOICES, description="completions per prompt")
    min_tokens: int = Field(0, ge=0)
    stop: str | list[StopString] = Field([], max_length=LONGEST_STOP, description="texts that end a reply")
    stop_token_ids: list[int] = Field([], max_length=MAX_STOP_TOKENS)
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = False

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and len(value) > MAX_STOPS:
            raise ValueError(f"expected at most {MAX_STOPS} texts")
        return value

    @field_validator("logit_bias")
    @classmethod
    def _ids(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := [key for key in value if not (key.isascii() and key.isdigit() and len(key) < 11)]:
            raise ValueError(f"expected token ids as keys, found '{wrong[0][:80]}'")
        return value

    @field_validator("structured_outputs")
    @classmethod
    def _one_constraint(cls, value: StructuredOutputs | None, info: ValidationInfo) -> StructuredOutputs | None:
        other = info.data.get("response_format")
        if value is not None and other is not None and other.constraint is not None:
            raise ValueError(f"response_format is {other.type} already; send one constraint")
        return value

    @model_validator(mode="after")
    def _ends(self) -> SamplingFields:
        if self.limit is not None and self.min_tokens > self.limit:
            raise ValueError(f"min_tokens is {self.min_tokens} but max_tokens is {self.limit}; lower min_tokens")
        return self

    @property
    def limit(self) -> int | None:
        """Maximum of a reply's tokens, the one that ends it included; None leaves it to the context."""
        raise NotImplementedError

    @property
    def top(self) -> int:
        """How many of the most probable tokens are listed for each token."""
        raise NotImplementedError

    @property
    def wants_logprobs(self) -> bool:
        """Whether the log-probability of each token is listed."""
        raise NotImplementedError

    @property
    def continues_text(self) -> bool:
        """Whether a completion goes on within a text, and does not begin one."""
        return False

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a reply."""
        return tuple(self.stop) if isinstance(self.stop, list) else (self.stop,) if self.stop else ()

    @property
    def constraint(self) -> tuple[str, Constraint] | None:
        """The name of the field that constrains the reply, and the constraint; None leaves the reply free."""
        for field in ("structured_outputs", "response_format"):
            value = getattr(self, field)
            if value is not None and value.constraint is not None:
                return field, value.constraint
        return None

    def sampling(self, room: int) -> Sampling:
        """The engine's form of these fields. Without a limit a reply may take `room` tokens."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k, 0),
            max_tokens=room if self.limit is None else self.limit,
            top_logprobs=self.top,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=tuple((int(token), bias) for token, bias in self.logit_bias.items()),
            min_tokens=self.min_tokens,
            stop_token_ids=tuple(self.stop_token_ids),
            ignore_eos=self.ignore_eos,
        )
