"""Requests to the decoding engine, and their completions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from aloe_jax.errors import InputError

MAX_TOP_LOGPROBS = 20  # as in OpenAI's API and vLLM
# Limits of the engine's arrays: top_k is a signed integer, keys are seeded with 32 unsigned bits.
MAX_TOP_K = 2**31 - 1
MAX_SEED = 2**32 - 1


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

    @classmethod
    def json(cls, schema: Mapping[str, object]) -> Constraint:
        """The constraint to JSON of a schema."""
        return cls(json_schema=json.dumps(schema, ensure_ascii=False))


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; top_p 1.0 and top_k 0 switch the filters off. With `top_logprobs`,
    at most 20, a completion also has that many of the most probable tokens at each place."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    top_logprobs: int = 0

    def check(self) -> None:
        """Raises InputError for a value that cannot be sampled with."""
        if self.max_tokens < 1:
            raise InputError(f"max_tokens {self.max_tokens} must be at least 1")
        if not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise InputError(f"top_logprobs {self.top_logprobs} must be between 0 and {MAX_TOP_LOGPROBS}")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature {self.temperature} must be a number of at least 0; 0 is greedy")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p} must be above 0 and at most 1; 1 keeps every token")
        if not 0 <= self.top_k <= MAX_TOP_K:
            raise InputError(f"top_k {self.top_k} must be between 0 and {MAX_TOP_K}; 0 keeps every token")


@dataclass(frozen=True)
class Request:
    """`n` completions of one prompt (token ids, template included). Equal (seed, prompt, sampling, constraint) give
    equal tokens whatever else runs beside it."""

    prompt: tuple[int, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    n: int = 1
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Completion:
    """Sampled ids, end-of-turn included unless `finish_reason` is "length"; natural log-probability of each under the
    model at temperature 1 without filters and without the constraint, as `aloe score` would give them.

    `top` is empty without `top_logprobs`. Else it has for each sampled token the most probable ones that the constraint
    allowed at its place, as (id, log-probability) pairs, the most probable first, fewer than requested where fewer were
    allowed. Their log-probabilities are those of the same unconstrained distribution; renormalised over the allowed
    tokens they are those of a draw at temperature 1.

    "length" is a reply that was cut: by its limit, by the context, or, under a constraint, where no token of the
    vocabulary continues the text or the grammar became too large to continue.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: str  # "stop" | "length"
    top: tuple[tuple[tuple[int, float], ...], ...] = ()

    @property
    def text_ids(self) -> tuple[int, ...]:
        """The ids that have text: all but the end-of-turn token."""
        return self.token_ids if self.finish_reason == "length" else self.token_ids[:-1]
