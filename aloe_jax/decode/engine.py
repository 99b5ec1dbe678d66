"""Batched decoding with a KV cache: requests come and go, the compiled shapes stay.

A prompt is run into a slot of the cache in chunks of one shape. The whole chunks of it that a slot already holds are
forked and not computed again: for further completions of one prompt, and for the next turn of a dialogue. All slots
then decode together in short bursts on the device, of a single token while one of them is constrained: a grammar on the
host gives the tokens that may come next. Randomness is keyed by (seed, completion, position), and a chunk's keys and
values depend on nothing but the tokens up to it, so a request gives the same tokens whatever runs beside it or ran
before.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, UInt32

from aloe_jax.decode import programs
from aloe_jax.decode.cache import empty_cache
from aloe_jax.decode.constraint import Grammar, Matcher
from aloe_jax.decode.programs import BURST, CHUNK, Slots, cache_length, idle_slots
from aloe_jax.decode.requests import MAX_TOP_LOGPROBS, Completion, ConstraintError, Request
from aloe_jax.decode.sampling import ALL, Sampled
from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel.sharding import cache_sharding, replicated


@dataclass
class _Work:
    """One completion of a request, waiting or in a slot."""

    ticket: int
    index: int
    request: Request
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    matcher: Matcher | None = None  # at the beginning while the work waits, then behind the reply's last token


class Engine:
    """Decodes requests over `slots` parallel sequences of up to `context` tokens, prompt included. Not thread-safe.

    `vocab` is the size of the tokenizer's vocabulary, beyond which an output head is only padded. Requests may be
    constrained if there is a `grammar`, of the same tokenizer. Raises InputError if `slots` or `context` do not fit the
    model.
    """

    def __init__(
        self,
        model: ModelConfig,
        params: decoder.Params,
        *,
        slots: int,
        context: int,
        end_of_turn: frozenset[int],
        vocab: int | None = None,
        grammar: Grammar | None = None,
        mesh: Mesh | None = None,
        dtype: DTypeLike = jnp.float32,
    ) -> None:
        if slots < 1:
            raise InputError(f"slots: {slots} must be at least 1")
        if not 2 <= context <= model.context:
            raise InputError(f"context: {context} must be between 2 and the model's {model.context}")
        self.slots, self.context = slots, context
        self._params = params
        self._end_of_turn = end_of_turn
        self._grammar = grammar
        self._mesh = mesh
        ends = jnp.asarray(sorted(end_of_turn), jnp.int32)
        self._prefill = jax.jit(functools.partial(programs.prefill, model=model, dtype=dtype), donate_argnums=1)
        self._burst = jax.jit(
            functools.partial(programs.burst, model=model, dtype=dtype, ends=ends, vocab=vocab), donate_argnums=(1, 2)
        )
        self._fork = jax.jit(programs.fork, donate_argnums=0)
        self._assign = jax.jit(programs.assign, donate_argnums=0)
        self._cache = empty_cache(model, slots, cache_length(context), dtype)
        self._state = idle_slots(slots)
        if mesh is not None:
            self._cache = jax.device_put(self._cache, cache_sharding(mesh))
            self._state = jax.device_put(self._state, replicated(mesh))
        self._known = model.vocab  # ids below it have an embedding
        self._unconstrained = self._allowed({}, -(-model.vocab // 32))
        self._held: list[tuple[int, ...]] = [()] * slots  # the prompt whose keys and values a slot holds
        self._free = deque(range(slots))  # idle slots, longest idle first
        self._running: dict[int, _Work] = {}
        self._waiting: deque[_Work] = deque()
        self._finished: dict[int, dict[int, Completion]] = {}
        self._tickets = 0

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._waiting or self._running)

    def submit(self, request: Request) -> int:
        """Queue a request and return its ticket. Raises InputError if the prompt is empty, leaves no room or has ids
        that the model does not know, and ConstraintError if its constraint cannot be kept."""
        if not 0 < len(request.prompt) < self.context:
            raise InputError(
                f"prompt of {len(request.prompt)} tokens: it must have at least 1 and leave room in the context of "
                f"{self.context} tokens; shorten the dialogue or raise the context"
            )
        if request.n < 1 or request.sampling.max_tokens < 1:
            raise InputError(f"n {request.n} and max_tokens {request.sampling.max_tokens} must be at least 1")
        if not 0 <= request.sampling.top_logprobs <= MAX_TOP_LOGPROBS:
            raise InputError(f"top_logprobs {request.sampling.top_logprobs} must be between 0 and {MAX_TOP_LOGPROBS}")
        if (largest := max(request.prompt)) >= self._known:
            raise InputError(
                f"prompt with the token id {largest}: the model's vocab_size is {self._known}; leave special tokens "
                "that it does not know out of the text"
            )
        matcher = self._matcher(request)
        self._tickets += 1
        self._finished[self._tickets] = {}
        works = (_Work(self._tickets, index, request, matcher=matcher) for index in range(request.n))
        self._waiting.extend(works)
        return self._tickets

    def cancel(self, ticket: int) -> None:
        """Forget a request; its slots become free. Unknown tickets are ignored."""
        self._waiting = deque(work for work in self._waiting if work.ticket != ticket)
        stopped = [slot for slot, work in self._running.items() if work.ticket == ticket]
        for slot in stopped:
            self._release(slot)
        self._halt(stopped)
        self._finished.pop(ticket, None)

    def step(self) -> list[tuple[int, list[Completion]]]:
        """(ticket, completions) of the requests that finish, after starting those that fit and decoding one burst."""
        while self._waiting and self._free:
            self._start(self._waiting.popleft())
        if not self._running:
            return []
        matchers = {slot: work.matcher for slot, work in self._running.items() if work.matcher}
        steps = 1 if matchers else BURST
        allowed = self._allowed(matchers, self._unconstrained.shape[1]) if matchers else self._unconstrained
        want_top = any(work.request.sampling.top_logprobs for work in self._running.values())
        self._cache, self._state, going, sampled = self._burst(
            self._params, self._cache, self._state, allowed, want_top, steps
        )
        going, sampled = jax.tree.map(lambda leaf: leaf[:steps], jax.device_get((going, sampled)))
        done, cut = [], []
        for slot, work in list(self._running.items()):
            mine = going[:, slot]
            _record(work, jax.tree.map(lambda leaf, mine=mine, slot=slot: leaf[mine, slot], sampled))
            complete = not mine.all() or self._complete(work)
            if not complete and work.matcher and not work.matcher.take(work.token_ids[-1]):
                complete = True
                cut.append(slot)
            if complete:
                self._release(slot)
                done += self._finish(work)
        self._halt(cut)
        return done

    def close(self) -> None:
        """Free the memory of parameters and cache, even while the engine is referenced. It cannot decode afterwards."""
        for name in ("_params", "_cache", "_state"):
            vars(self).pop(name, None)

    def generate(self, requests: list[Request]) -> list[list[Completion]]:
        """Completions of each request, in order; for callers without a queue of their own."""
        tickets = [self.submit(request) for request in requests]
        results: dict[int, list[Completion]] = {}
        while self.busy:
            results.update(self.step())
        return [results[ticket] for ticket in tickets]

    def _complete(self, work: _Work) -> bool:
        room = self.context - len(work.request.prompt)
        full = len(work.token_ids) >= min(work.request.sampling.max_tokens, room)
        return full or work.token_ids[-1] in self._end_of_turn

    def _finish(self, work: _Work) -> list[tuple[int, list[Completion]]]:
        reason = "stop" if work.token_ids[-1] in self._end_of_turn else "length"
        parts = self._finished[work.ticket]
        parts[work.index] = Completion(tuple(work.token_ids), tuple(work.log_probs), reason, tuple(work.top))
        if len(parts) < work.request.n:
            return []
        del self._finished[work.ticket]
        return [(work.ticket, [parts[index] for index in range(work.request.n)])]

    def _release(self, slot: int) -> None:
        del self._running[slot]
        self._free.append(slot)

    def _halt(self, slots: list[int]) -> None:
        """Stop slots that would continue."""
        if slots:
            self._state = self._state._replace(left=self._state.left.at[np.array(slots)].set(0))

    def _matcher(self, request: Request) -> Matcher | None:
        if request.constraint is None:
            return None
        if self._grammar is None:
            raise ConstraintError("replies cannot be constrained: the engine was made without a grammar")
        return self._grammar.matcher(request.constraint)

    def _allowed(self, matchers: Mapping[int, Matcher], words: int) -> UInt32[Array, "S W"]:
        """Bits of the tokens that each slot may draw: all of them, except in slots with a matcher."""
        allowed = np.full((self.slots, words), ALL, np.uint32)
        for slot, matcher in matchers.items():
            row = matcher.allowed[:words]  # the model's vocabulary is padded, or that of the tokenizer is
            allowed[slot] = np.pad(row, (0, words - len(row)))
        bits = jnp.asarray(allowed)
        return bits if self._mesh is None else jax.device_put(bits, replicated(self._mesh))

    def _start(self, work: _Work) -> None:
        """Compute the prompt's keys and values in a free slot and start it. The last prompt token is the first that the
        slot decodes, so that only decoding needs the output head."""
        prompt = work.request.prompt
        kept = [_kept(prompt, held) for held in self._held]
        source = max(range(self.slots), key=lambda slot: (kept[slot], slot in self._free))
        slot = source if source in self._free and kept[source] else self._free[0]
        self._free.remove(slot)
        if slot != source and kept[source]:
            self._cache = self._fork(self._cache, source, slot)
        for start in range(kept[source], len(prompt) - 1, CHUNK):
            chunk = np.zeros((1, CHUNK), np.int32)
            tokens = prompt[start : min(start + CHUNK, len(prompt) - 1)]
            chunk[0, : len(tokens)] = tokens  # keys of the padding are overwritten before they become visible
            self._cache = self._prefill(self._params, self._cache, chunk, start, slot)
        self._held[slot] = prompt
        work.matcher = work.matcher and work.matcher.copy()
        sampling = work.request.sampling
        values = Slots(
            token=jnp.asarray(prompt[-1]),
            position=jnp.asarray(len(prompt) - 1),
            left=jnp.asarray(min(sampling.max_tokens, self.context - len(prompt))),
            key=jax.random.fold_in(jax.random.key(work.request.seed), work.index),
            temperature=jnp.asarray(sampling.temperature, jnp.float32),
            top_p=jnp.asarray(sampling.top_p, jnp.float32),
            top_k=jnp.asarray(sampling.top_k, jnp.int32),
        )
        self._state = self._assign(self._state, slot, values)
        self._running[slot] = work


def _kept(prompt: tuple[int, ...], held: tuple[int, ...]) -> int:
    """The number of leading tokens of `prompt` that need not be run where `held` was: all but the last if they are
    equal, else the whole chunks that both begin with. (Tokens decoded behind a prompt were computed in another shape.)
    """
    if prompt == held:
        return len(prompt) - 1
    most = (min(len(prompt), len(held)) - 1) // CHUNK * CHUNK
    return next((start for start in range(most, 0, -CHUNK) if prompt[:start] == held[:start]), 0)


def _record(work: _Work, sampled: Sampled) -> None:
    """Append the N tokens [N, ...] that its slot sampled to a completion."""
    work.token_ids += sampled.token.tolist()
    work.log_probs += sampled.log_prob.tolist()
    wanted = work.request.sampling.top_logprobs
    if wanted:
        for ids, log_probs in zip(sampled.top_ids.tolist(), sampled.top_log_probs.tolist(), strict=True):
            pairs = zip(ids[:wanted], log_probs, strict=False)
            work.top.append(tuple(pair for pair in pairs if pair[1] > -math.inf))
