"""Requests to the decoding engine, and their completions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from aloe_jax.errors import InputError

MAX_TOP_LOGPROBS = 20  # as in OpenAI's API and vLLM
# Limits of the engine's arrays: top_k is a signed integer, the programs take this many biases and end tokens per row.
MAX_TOP_K = 2**31 - 1
MAX_BIASES = 300
MAX_STOP_TOKENS = 16
MAX_CONSTRAINT = 2**15  # bytes; a grammar is compiled while all others wait, up to a second for one of this size
LEAST_REPETITION, MOST_REPETITION = 0.01, 100  # a logit divided by less may leave what an f32 holds
MIN_SEED, MAX_SEED = -(2**63), 2**64 - 1  # 64 bits, signed or not: -1 is 2**64 - 1

Top = tuple[tuple[int, float], ...]  # (id, log-probability) pairs, the most probable first


class ConstraintError(InputError):
    """A constraint that cannot be enforced: it is malformed, unsatisfiable, or beyond the grammar library."""


@dataclass(frozen=True)
class Constraint:
    """What the text of a reply must be, end-of-turn token aside: exactly one of `choices`, or a full match of `regex`,
    or JSON without free whitespace that fits `json_schema`, itself JSON text. One of the three is given.

    A regex is one of Rust's `regex` crate, without look-around. Properties of an object come in the order of the
    schema, keywords that are not supported are refused. A reply cut by its limit of tokens is a prefix of such a text.
    Raises ConstraintError unless exactly one is given.
    """

    choices: tuple[str, ...] | None = None
    regex: str | None = None
    json_schema: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("choices", "regex", "json_schema") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConstraintError(f"a constraint is one of choices, regex and json_schema, found {given or 'none'}")
        if self.choices == ():
            raise ConstraintError("the list of choices is empty; give at least one")

    @property
    def size(self) -> int:
        """The bytes of its texts, UTF-8 encoded."""
        return sum(len(text.encode()) for text in (*(self.choices or ()), self.regex or "", self.json_schema or ""))

    @classmethod
    def json(cls, schema: Mapping[str, object]) -> Constraint:
        """The constraint to JSON of a schema."""
        return cls(json_schema=json.dumps(schema, ensure_ascii=False))


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and when a reply ends. The order is vLLM's: `logit_bias` is added to the logits, then come
    the penalties, the temperature, min-p, top-k and top-p. Defaults switch every option off.

    temperature: 0 is greedy.
    top_p, top_k: keep the most probable tokens. 1.0 and 0 keep all.
    min_p: keeps the tokens that are at least this many times as probable as the most probable one.
    presence_penalty, frequency_penalty: subtracted from the logit of a token that the reply has already, once and per
        occurrence (OpenAI).
    repetition_penalty: divides positive logits of tokens in the prompt or the reply, and multiplies negative ones
        (arXiv 1909.05858). 1.0 changes nothing.
    logit_bias: (token id, what is added to its logit) pairs; -100 bans a token in effect, 100 forces it.
    max_tokens: 0 is a request for the prompt alone.
    min_tokens: tokens before a token may be drawn that ends the reply. Under a constraint the reply ends where its text
        must.
    stop_token_ids: tokens that end the reply besides the tokenizer's end-of-turn tokens, which `ignore_eos` leaves out.
    top_logprobs: with it, at most 20, a completion also has that many of the most probable tokens at each place.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    top_logprobs: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False

    @property
    def named(self) -> dict[str, tuple[int, ...]]:
        """The token ids that each option names."""
        return {"logit_bias": tuple(token for token, _ in self.logit_bias), "stop_token_ids": self.stop_token_ids}

    @property
    def penalises(self) -> bool:
        """Whether the scores of tokens depend on those before them."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1)

    @property
    def adjusts(self) -> bool:
        """Whether an option is on that most requests leave off (`decode/adjust.py`)."""
        return bool(
            self.penalises or self.min_p or self.logit_bias or self.min_tokens or self.stop_token_ids or self.ignore_eos
        )

    def check(self) -> None:
        """Raises InputError for a value that cannot be sampled with."""
        if self.max_tokens < 0:
            raise InputError(f"max_tokens {self.max_tokens} must be at least 0")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise InputError(
                f"min_tokens {self.min_tokens} must be between 0 and max_tokens, which is {self.max_tokens}"
            )
        if not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise InputError(f"top_logprobs {self.top_logprobs} must be between 0 and {MAX_TOP_LOGPROBS}")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature {self.temperature} must be a number of at least 0; 0 is greedy")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p} must be above 0 and at most 1; 1 keeps every token")
        if not 0 <= self.top_k <= MAX_TOP_K:
            raise InputError(f"top_k {self.top_k} must be between 0 and {MAX_TOP_K}; 0 keeps every token")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p {self.min_p} must be between 0 and 1; 0 keeps every token")
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                raise InputError(f"{name} {getattr(self, name)} must be between -2 and 2; 0 changes nothing")
        if not LEAST_REPETITION <= self.repetition_penalty <= MOST_REPETITION:
            raise InputError(
                f"repetition_penalty {self.repetition_penalty} must be between {LEAST_REPETITION} and "
                f"{MOST_REPETITION}; 1 changes nothing"
            )
        if len(self.logit_bias) > MAX_BIASES:
            raise InputError(f"logit_bias of {len(self.logit_bias)} tokens: at most {MAX_BIASES} can be given")
        if wrong := [pair for pair in self.logit_bias if not -100 <= pair[1] <= 100]:
            raise InputError(f"logit_bias {wrong[0][1]} of token {wrong[0][0]} must be between -100 and 100")
        if len({token for token, _ in self.logit_bias}) < len(self.logit_bias):
            raise InputError("logit_bias names a token twice; give each one bias")
        if len(self.stop_token_ids) > MAX_STOP_TOKENS:
            raise InputError(
                f"stop_token_ids of {len(self.stop_token_ids)} tokens: at most {MAX_STOP_TOKENS} can be given"
            )


@dataclass(frozen=True)
class Request:
    """`n` completions of one prompt (token ids, template included). Equal (seed, prompt, sampling, constraint) give
    equal tokens whatever else runs beside it.

    With `stream` the engine also says what it drew after every burst; with `live` somebody reads that at once, so
    bursts are short. With `score` it also computes the log-probabilities of the prompt's own tokens; such a request
    neither goes on from pages of others nor leaves any.
    """

    prompt: tuple[int, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    n: int = 1
    constraint: Constraint | None = None
    stream: bool = False
    live: bool = False
    score: bool = False


@dataclass(frozen=True)
class PromptScores:
    """Natural log-probabilities of the prompt's tokens under the model, each given those before it, and the most
    probable tokens at their places. The first token has neither: None and (). `top` is empty without `top_logprobs`."""

    log_probs: tuple[float | None, ...]
    top: tuple[Top, ...] = ()


@dataclass(frozen=True)
class Completion:
    """Sampled ids, the token that ended the reply included unless `finish_reason` is "length"; natural log-probability
    of each under the model at temperature 1 without filters, penalties, biases and constraint, as `aloe score` would
    give them.

    `top` is empty without `top_logprobs`. Else it has for each sampled token the most probable ones that the constraint
    allowed at its place, as (id, log-probability) pairs, the most probable first, fewer than requested where fewer were
    allowed. Their log-probabilities are those of the same unconstrained distribution; renormalised over the allowed
    tokens they are those of a draw at temperature 1.

    "length" is a reply that was cut: by its limit, by the context, or, under a constraint, where no token of the
    vocabulary continues the text or the grammar became too large to continue. `prompt` is there with `Request.score`.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: str  # "stop" | "length"
    top: tuple[Top, ...] = ()
    prompt: PromptScores | None = None

    @property
    def text_ids(self) -> tuple[int, ...]:
        """The ids that have text: all but the token that ended the reply."""
        return self.token_ids if self.finish_reason == "length" else self.token_ids[:-1]


@dataclass(frozen=True)
class Delta:
    """What the completion `index` of a streamed request got in one step: new tokens, as in `Completion`. The last one
    of a completion has its `finish_reason`, and perhaps no tokens; the first one the scores of the prompt, if wanted.
    """

    index: int
    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    top: tuple[Top, ...] = ()
    finish_reason: str | None = None
    prompt: PromptScores | None = None
