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

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from aloe_jax.decode.requests import MAX_TOP_LOGPROBS
from aloe_jax.serve.protocol.messages import ChatMessage
from aloe_jax.serve.protocol.sampling import SamplingFields
from aloe_jax.serve.protocol.usage import Usage

# What the template is given by the server itself: texts of special tokens end in "_token".
RESERVED = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}
    | {"raise_exception", "strftime_now", "chat_template"}
)


class Prompting(BaseModel):
    """The fields of a request that say how its messages become a prompt."""

    messages: list[ChatMessage] = Field(min_length=1)
    add_generation_prompt: bool = Field(True, description="false: the prompt ends with the last message")
    continue_final_message: bool = Field(False, description="the reply goes on where the last message ends")
    chat_template_kwargs: dict[str, object] = Field({}, description="variables of the chat template")

    @field_validator("chat_template_kwargs")
    @classmethod
    def _free_names(cls, value: dict[str, object]) -> dict[str, object]:
        if taken := next((name for name in value if name in RESERVED or name.endswith("_token")), None):
            raise ValueError(f"'{taken}' is given to the template by the server; leave it out")
        return value

    @model_validator(mode="after")
    def _one_end(self) -> Prompting:
        if not self.continue_final_message:
            return self
        if "add_generation_prompt" in self.model_fields_set and self.add_generation_prompt:
            raise ValueError("continue_final_message is true and so is add_generation_prompt; send one of them")
        if self.messages[-1].role != "assistant":
            raise ValueError(
                f"continue_final_message: the last message is of the role {self.messages[-1].role}; expected assistant"
            )
        return self


class ChatRequest(Prompting, SamplingFields):
    """Body of POST /v1/chat/completions. Without a limit a reply may fill the context."""

    max_tokens: int | None = Field(None, ge=0, description="maximum of a reply's tokens; 0 draws none")
    max_completion_tokens: int | None = Field(None, ge=0, description="the same by its later name")
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_TOP_LOGPROBS)

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

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_tokens is not None else self.max_completion_tokens

    @property
    def top(self) -> int:
        return self.top_logprobs

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs

    @property
    def continues_text(self) -> bool:
        return self.continue_final_message


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
    """One completion. `token_ids` and `logprobs.content` have an entry per token, the one that ended the reply included
    unless `finish_reason` is "length"; the text does not have it. `stop_reason` is the stop string or the id among
    `stop_token_ids` that ended the reply."""

    index: int = 0
    message: ReplyMessage
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None


class _Answer(BaseModel):
    """What the whole answer and each chunk say about the request; only the first chunk has the ids of the prompt."""

    id: str = ""
    created: int = 0
    model: str = ""
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None
    tokenizer_hash: str | None = None


class ChatResponse(_Answer):
    """Answer to a chat completion; `aloe_jax/serve/client/response.py` reads those of any server."""

    object: str = "chat.completion"
    choices: list[Choice]


class ChunkDelta(BaseModel):
    """What is new of a message; what is not has no field."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _new(self, write: SerializerFunctionWrapHandler) -> dict[str, str]:
        return {name: value for name, value in write(self).items() if value is not None}


class ChunkChoice(BaseModel):
    """What is new of one completion: its text, and the tokens that begin in it."""

    index: int = 0
    delta: ChunkDelta
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None


class ChatChunk(_Answer):
    """A part of a streamed answer."""

    object: str = "chat.completion.chunk"
    choices: list[ChunkChoice]
