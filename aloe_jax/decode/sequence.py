"""A completion on its way: what its request wants, what it has, and the pages it is in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt32

from aloe_jax.decode.constraint import Matcher
from aloe_jax.decode.pages import Page
from aloe_jax.decode.programs import Scores
from aloe_jax.decode.requests import Completion, Delta, PromptScores, Request, Top
from aloe_jax.decode.sampling import Sampled


@dataclass(eq=False)
class Sequence:
    """One completion of a request, waiting or under way.

    `ran` tokens have their keys and values in the pages of `path`. The prompt's last token is the first that is
    decoded, so that only decoding needs the output head.
    """

    ticket: int
    index: int  # among the request's completions
    request: Request
    most: int  # tokens that may be sampled
    key: UInt32[np.ndarray, 2]
    ends: frozenset[int]  # tokens that end it
    matcher: Matcher | None = None  # at the beginning while it waits, then behind the reply's last token
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    top: list[Top] = field(default_factory=list)
    path: list[Page] = field(default_factory=list)
    ran: int = 0
    scores: list[float] = field(default_factory=list)  # of the prompt's tokens from the second on
    score_tops: list[Top] = field(default_factory=list)
    promised: int = 0  # pages that it may still take
    told: int = 0  # of its tokens, those that were streamed

    @property
    def body(self) -> tuple[int, ...]:
        """The prompt without its last token."""
        return self.request.prompt[:-1]

    @property
    def decodes(self) -> bool:
        """Whether its prompt was run."""
        return self.ran >= len(self.request.prompt) - 1

    @property
    def token(self) -> int:
        """The next token to run."""
        return self.token_ids[-1] if self.token_ids else self.request.prompt[-1]

    def tokens(self, start: int, stop: int) -> tuple[int, ...]:
        """Tokens of prompt and reply from `start` to `stop`."""
        prompt = self.request.prompt
        reply = self.token_ids[max(start - len(prompt), 0) : max(stop - len(prompt), 0)]
        return (*prompt[start:stop], *reply)

    def record(self, sampled: Sampled) -> None:
        """Append the N tokens [N, ...] that its row drew."""
        self.token_ids += sampled.token.tolist()
        self.log_probs += sampled.log_prob.tolist()
        self.top += self._tops(sampled)

    def record_scores(self, scores: Scores) -> None:
        """Append the scores [N, ...] of its prompt's next N tokens."""
        self.scores += scores.log_prob.tolist()
        self.score_tops += self._tops(scores)

    def completion(self, reason: str) -> Completion:
        """What it has, when it ends."""
        return Completion(tuple(self.token_ids), tuple(self.log_probs), reason, tuple(self.top), self._prompt_scores())

    def delta(self, reason: str | None) -> Delta:
        """What it got since the last call."""
        new = slice(self.told, None)
        prompt = None if self.told else self._prompt_scores()
        self.told = len(self.token_ids)
        return Delta(
            self.index, tuple(self.token_ids[new]), tuple(self.log_probs[new]), tuple(self.top[new]), reason, prompt
        )

    def _tops(self, found: Sampled | Scores) -> list[Top]:
        """The most probable tokens at N places, as many as its request wants."""
        wanted = self.request.sampling.top_logprobs
        places = zip(found.top_ids.tolist(), found.top_log_probs.tolist(), strict=True) if wanted else ()
        return [
            tuple(pair for pair in zip(ids[:wanted], log_probs, strict=False) if pair[1] > -math.inf)
            for ids, log_probs in places
        ]

    def _prompt_scores(self) -> PromptScores | None:
        """None where they are not wanted, or the prompt has not been run."""
        if not (self.request.score and self.decodes):
            return None
        return PromptScores((None, *self.scores), ((), *self.score_tops) if self.request.sampling.top_logprobs else ())
