"""What comes back from a server: a whole answer, or the reason why there is none."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from pydantic import ValidationError

from aloe_jax.errors import AloeError, InputError, ResumableError
from aloe_jax.serve.protocol import ChatResponse, Choice

# Rounding in a server's log-softmax may leave a certain token a little above probability 1.
ABOVE_ZERO = 1e-3
Top = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Answer:
    """One completion. None where the server does not give it: `token_ids` (end-of-turn included unless `finish_reason`
    is "length"), `logprobs` (one for each token id, or for each token the server reports), `tokens` (their texts),
    `top` (for each, the most probable tokens as text and log-probability), `tokenizer` (hash)."""

    text: str
    finish_reason: str = "stop"
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    tokenizer: str | None = None
    call: str = ""
    tokens: tuple[str, ...] | None = None
    top: tuple[Top, ...] | None = None

    @property
    def truncated(self) -> bool:
        """Whether the reply was cut off."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class Failure:
    """Why an attempt gave no answer. `error` is set where trying again is pointless or has to end in that error.
    `server` tells whose fault it is: the server's (it counts as failing) or this request's. `load` is a refusal
    because of too many calls."""

    reason: str
    retry_after: float | None = None
    again: bool = True
    error: type[AloeError] = ResumableError
    refused_field: str | None = None
    server: bool = True
    load: bool = False


def read(content: bytes, n: int) -> ChatResponse | Failure:
    """The answer in a 200 body, if it is whole."""
    try:
        response = ChatResponse.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return Failure(f"the server's answer is broken ({f'{place}: ' if place else ''}{first['msg']})")
    if len(response.choices) != n:
        reason = f"the server gives {len(response.choices)} choices where n={n} were asked"
        return Failure(f"{reason}; ask for n=1 or use a server that supports n", error=InputError, server=False)
    for choice in response.choices:
        for token in (choice.logprobs.content if choice.logprobs else None) or ():
            if not (math.isfinite(token.logprob) and token.logprob <= ABOVE_ZERO):
                return Failure(f"the server's answer has a log-probability of {token.logprob}")
    return response.model_copy(update={"choices": sorted(response.choices, key=lambda choice: choice.index)})


def answer(choice: Choice, tokenizer: str | None, call: str) -> Answer:
    """A choice of the response as an answer to the call."""
    token_ids = None if choice.token_ids is None else tuple(choice.token_ids)
    logprobs = tokens = top = None
    if choice.logprobs is not None and choice.logprobs.content is not None:
        content = choice.logprobs.content
        logprobs = tuple(token.logprob for token in content)
        if any(token.top_logprobs for token in content):
            tokens = tuple(token.token for token in content)
            top = tuple(tuple((other.token, other.logprob) for other in token.top_logprobs) for token in content)
    if token_ids is not None and logprobs is not None and len(token_ids) != len(logprobs):
        logprobs = None  # they do not say which tokens they belong to
    return Answer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "stop",
        token_ids=token_ids,
        logprobs=logprobs,
        tokenizer=tokenizer if token_ids is not None else None,
        call=call,
        tokens=tokens,
        top=top,
    )


def error_message(content: bytes) -> str:
    """The message of an OpenAI error object, else the start of the body."""
    try:
        data = json.loads(content)
    except ValueError:
        return " ".join(content[:200].decode(errors="replace").split())
    error = data.get("error", data) if isinstance(data, dict) else data
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else json.dumps(error, ensure_ascii=False)[:200]
