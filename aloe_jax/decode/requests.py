"""What the decoding engine is asked and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; top_p 1.0 and top_k 0 switch the filters off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256


@dataclass(frozen=True)
class Request:
    """`n` completions of one prompt (token ids, template included). Equal (seed, prompt, sampling) give equal tokens
    whatever else runs beside it."""

    prompt: tuple[int, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    n: int = 1


@dataclass(frozen=True)
class Completion:
    """Sampled ids, end-of-turn included unless `finish_reason` is "length"; natural log-probability of each under the
    model at temperature 1 without filters, as `aloe score` would give them."""

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: str  # "stop" | "length"
