"""Text completions, as OpenAI's older API and vLLM have them: a prompt of text or token ids is continued as it is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from aloe_jax.decode.requests import MAX_TOP_LOGPROBS
from aloe_jax.serve.protocol.sampling import SamplingFields
from aloe_jax.serve.protocol.usage import Usage
from aloe_jax.tree.schema import TokenId

DEFAULT_LIMIT = 16  # tokens, as in OpenAI's API
MOST_SEQUENCES = 256  # prompts times completions of one request

TokenIds = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """Body of POST /v1/completions."""

    prompt: str | TokenIds | Annotated[list[str] | list[TokenIds], Field(min_length=1)] = Field(
        description="one prompt or several, as text or as token ids"
    )
    max_tokens: int = Field(DEFAULT_LIMIT, ge=0, description="maximum of a completion's tokens; 0 draws none")
    best_of: int | None = Field(None, ge=1, description="1, or the same as n")
    echo: bool = Field(False, description="put the prompt, and with logprobs its tokens, before the completion")
    logprobs: int | None = Field(
        None, ge=0, le=MAX_TOP_LOGPROBS, description="list tokens, and at each place so many of the most probable ones"
    )
    add_special_tokens: bool = Field(True, description="put the tokenizer's own beginning before a prompt of text")

    @field_validator("best_of")
    @classmethod
    def _all_returned(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value not in (None, 1, info.data.get("n")):
            raise ValueError("completions are not chosen among; expected 1, or the same as n")
        return value

    @model_validator(mode="after")
    def _few_enough(self) -> CompletionRequest:
        if (sequences := self.n * len(self.prompts)) > MOST_SEQUENCES:
            raise ValueError(f"prompt and n make {sequences} completions; expected at most {MOST_SEQUENCES}")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [each for each in self.prompt if isinstance(each, int)]
        return [ids] if ids else [each for each in self.prompt if not isinstance(each, int)]

    @property
    def limit(self) -> int:
        return self.max_tokens

    @property
    def top(self) -> int:
        return self.logprobs or 0

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None

    @property
    def continues_text(self) -> bool:
        return True


class TextLogprobs(BaseModel):
    """Tokens of a text, in order. One that is a piece of a character goes by its id, as "token_id:7". A prompt's first
    token has no log-probability. `top_logprobs` also has the token itself; `text_offset` counts the characters before
    it."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] = []
    text_offset: list[int] = []


class TextChoice(BaseModel):
    """One completion; those of a prompt follow each other. `token_ids` are the completion's alone."""

    index: int = 0
    text: str = ""
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class CompletionResponse(BaseModel):
    """Answer to a text completion, or a chunk of one that is streamed."""

    id: str = ""
    object: str = "text_completion"
    created: int = 0
    model: str = ""
    choices: list[TextChoice]
    usage: Usage | None = None
    tokenizer_hash: str | None = None
