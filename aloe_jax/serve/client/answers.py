"""What a call gives: a whole answer, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from aloe_jax.errors import AloeError, ResumableError
from aloe_jax.serve.client.call_errors import CallError, RefusedCallError
from aloe_jax.serve.client.response import NO_REASON, GivenChoice, GivenResponse, first_words, halved, parsed_response
from aloe_jax.serve.client.thinking import said_from, without_thoughts
from aloe_jax.tree import markup

# Rounding in a server's log-softmax may leave a certain token a little above probability 1.
ABOVE_ZERO = 1e-3
Top = tuple[tuple[str, float], ...]
# How servers call an end that the model itself chose.
ENDED = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn"})
BROKEN_OFF = frozenset({"abort", "aborted", "cancelled", "canceled", "error", "failed"})  # tried again


@dataclass(frozen=True)
class Answer:
    """One completion. None where the server does not give it: `token_ids` (end-of-turn included unless `truncated`),
    `logprobs` (one per token id, or per token that the server reports), `tokens` (their texts), `top` (for each, the
    most probable tokens as text and log-probability), `tokenizer` (hash). `call` is the id of the request. `thought` is
    what was cut out of the text because the model only thought it; the token ids are left out then."""

    text: str
    finish_reason: str = "stop"
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    tokenizer: str | None = None
    call: str = ""
    tokens: tuple[str, ...] | None = None
    top: tuple[Top, ...] | None = None
    thought: str | None = None

    @property
    def truncated(self) -> bool:
        """Whether the reply did not come to its end: it was cut off, filtered, broken off, or nobody says how it
        ended."""
        return self.finish_reason.lower() not in ENDED


@dataclass(frozen=True)
class Failure:
    """Why an attempt gave no answer. `error` is raised where no retry is left, or none would help (`again` False).
    `server` tells whose fault it is: the server's (it counts as failing) or this request's. `load` is a refusal
    because of too many calls. `refused_field` is the field to leave out, `refused_value` one that is refused at this
    value only. `kind` is the reason in a few words."""

    reason: str
    retry_after: float | None = None
    again: bool = True
    error: type[AloeError] = ResumableError
    refused_field: str | None = None
    refused_value: str | None = None
    server: bool = True
    load: bool = False
    kind: str = "broken answer"

    def raised(self, message: str) -> AloeError:
        """The error to raise, with this message."""
        return self.error(message, self.kind) if issubclass(self.error, CallError) else self.error(message)


def read(content: bytes, n: int) -> GivenResponse | Failure:
    """The response in a 200 body, or a Failure if it is not whole."""
    response = parsed_response(content)
    if isinstance(response, str):
        return Failure(f"the server's answer is broken ({response}): {first_words(content)}")
    if len(response.choices) != n:
        reason = f"the server gives {len(response.choices)} choices where n={n} were asked"
        return Failure(
            f"{reason}; ask for n=1 or use a server that supports n", error=RefusedCallError, server=False, kind="no n"
        )
    for choice in response.choices:
        if any(map(halved, (choice.message.content, choice.message.thought, choice.message.refusal))):
            reason = "the server's answer holds half of a surrogate pair, which is no character and cannot be stored"
            return Failure(reason, again=False, error=RefusedCallError, server=False, kind="half a character")
        tokens = (choice.logprobs.content if choice.logprobs else None) or ()
        listed = (each for token in tokens for each in (token, *token.top_logprobs))
        if wrong := wrong_log_prob(each.logprob for each in listed):
            return Failure(wrong)
    return response


def wrong_log_prob(values: Iterable[float]) -> str | None:
    """The reason why log-probabilities cannot be true; None if they can."""
    wrong = (value for value in values if not (math.isfinite(value) and value <= ABOVE_ZERO))
    return next((f"the server's answer has a log-probability of {value}" for value in wrong), None)


def answer(choice: GivenChoice, tokenizer: str | None, call: str, ends: bool = False) -> Answer:
    """The answer that a choice of a response is. `ends` is whether the server says how answers end, so that one without
    a reason did not come to its end."""
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
    message = choice.message
    given = Answer(
        text=message.content or message.refusal,
        finish_reason=choice.finish_reason or (NO_REASON if ends else "stop"),
        token_ids=token_ids,
        logprobs=logprobs,
        tokenizer=tokenizer if token_ids is not None else None,
        call=call,
        tokens=tokens,
        top=top,
    )
    if message.refusal and not message.content:
        given = replace(given, finish_reason="refusal")
    return _ended(said(given, message.thought or None))


def _ended(answer: Answer) -> Answer:
    """The answer without the markup of its turn: the header that some servers leave in front, and everything from an
    end of turn on, where the server did not stop. Its ids are left out then."""
    text = markup.without_header(answer.text)
    end = markup.first_end(text)
    if end is None and text == answer.text:
        return answer
    finish_reason = answer.finish_reason if end is None else "stop"
    return replace(
        answer,
        text=text[:end].rstrip(),
        finish_reason=finish_reason,
        token_ids=None,
        logprobs=None,
        tokenizer=None,
    )


def said(answer: Answer, thought: str | None = None, opened: bool = False) -> Answer:
    """The answer without the model's thoughts; `thought` are those that the server has separated already, and `opened`
    is whether the prompt began them. Token ids and log-probabilities that include thoughts are left out, so that
    nothing is trained on them."""
    text, inside = without_thoughts(answer.text, opened and answer.truncated)
    thought = "".join(filter(None, (thought, inside))) or None
    if thought is None:
        return answer
    begin = said_from(answer.tokens) if answer.tokens is not None else None
    if begin is None and inside is None and answer.tokens and "".join(answer.tokens).strip() == text.strip():
        begin = 0
    return replace(
        answer,
        text=text,
        thought=thought,
        token_ids=None,
        logprobs=None,
        tokenizer=None,
        tokens=None if begin is None or answer.tokens is None else answer.tokens[begin:],
        top=None if begin is None or answer.top is None else answer.top[begin:],
    )
