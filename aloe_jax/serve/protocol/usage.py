"""Counts of tokens, and the options of a stream: what both kinds of completions share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Usage(BaseModel):
    """Tokens of the prompts, each counted once, and of all their completions."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    @classmethod
    def of(cls, prompt: int, completion: int) -> Usage:
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    include_usage: bool = Field(default=False, description="a last chunk with the counts of the whole request")
    continuous_usage_stats: bool = Field(default=False, description="the counts so far in every chunk")

    @property
    def left_out(self) -> set[str] | None:
        """The fields that chunks do not have: without `include_usage` no usage, with it null up to the last chunk."""
        return None if self.include_usage or self.continuous_usage_stats else {"usage"}
