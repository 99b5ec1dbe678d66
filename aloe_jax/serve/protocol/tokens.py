"""Tokenising and its reverse, as vLLM spells them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from aloe_jax.serve.protocol.chat import Prompting
from aloe_jax.tree.schema import TokenId


class TokenizeText(BaseModel):
    """Body of POST /tokenize for a text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = Field(None, description="may be left out where one model is served")
    prompt: str
    add_special_tokens: bool = Field(True, description="put the tokenizer's own beginning before the text")
    return_token_strs: bool = False


class TokenizeMessages(Prompting):
    """Body of POST /tokenize for messages."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = Field(None, description="may be left out where one model is served")
    add_special_tokens: bool = Field(False, description="only false: the template writes what belongs there")
    return_token_strs: bool = False


class TokenizeResponse(BaseModel):
    """Token ids of a text or of the prompt for a reply."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(BaseModel):
    """Body of POST /detokenize."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = Field(None, description="may be left out where one model is served")
    tokens: Annotated[list[TokenId], Field(max_length=2**20)]


class TokenizerInfo(BaseModel):
    """What a client needs to know of a tokenizer that it reaches only over HTTP; the texts of special tokens are null
    where there is none."""

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    chat_template: str
    tokenizer_hash: str


class DetokenizeResponse(BaseModel):
    """The text of token ids, special tokens included."""

    prompt: str
