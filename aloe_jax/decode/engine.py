"""Batched decoding over a tree of pages: requests come and go, the compiled shapes stay.

A request goes on where the tree already holds the beginning of its prompt: siblings, samples and the turns of a
dialogue share the pages of their trunk. What is missing of the prompts runs in chunks, many at a time, between bursts
in which all sequences decode together. A constrained sequence takes one token per burst, since a grammar on the host
gives the tokens that may come next; its neighbours go on. Programs for sampling options and for scored prompts run
where a request has some. Which programs run depends only on the order of calls, not on time, and randomness is keyed by
(seed, completion, position): equal schedules give equal bits. Beside other neighbours a sequence's log-probabilities
differ by rounding alone.

The engine schedules on one process. On several hosts every process runs its plans (`decode/executor.py`).
"""

from __future__ import annotations

import functools
from collections import deque
from contextlib import nullcontext

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt32

from aloe_jax.decode import plans
from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.executor import Executor, shape_for, words_of
from aloe_jax.decode.filling import Chunk, burst_plan, prefill_plan
from aloe_jax.decode.pages import SCRATCH, Found
from aloe_jax.decode.plans import COPIES, Copy, Plan
from aloe_jax.decode.programs import Drawn, Scores
from aloe_jax.decode.relay import Relay
from aloe_jax.decode.requests import MAX_SEED, MIN_SEED, Completion, ConstraintError, Delta, Request
from aloe_jax.decode.sequence import Sequence
from aloe_jax.decode.share import Share
from aloe_jax.decode.state import EngineState, state_of
from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig

SHORT = 16  # chunks of a prefill per share where more sequences decode than wait for it
UNEVEN = 64  # tokens already held that outweigh one more sequence in a share


class Engine:
    """Decodes requests: at most `slots` sequences at a time, each of up to `context` tokens, prompt included. Not
    thread-safe.

    `vocab` is the size of the tokenizer's vocabulary, beyond which an output head is only padded. Requests may be
    constrained if there is a `grammar`, of the same tokenizer. The cache has `pages` pages per share of the mesh, by
    default enough for all slots; what running sequences do not need of them keeps earlier ones. `whole` is as in
    `Executor`.

    Raises InputError if `slots`, `context`, `pages` or the mesh do not fit the model.
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
        dtype: str = "float32",
        pages: int | None = None,
        whole: bool | None = None,
    ) -> None:
        shape = shape_for(slots, context, mesh, pages)
        if not 2 <= context <= model.context:
            raise InputError(f"context: {context} must be between 2 and the model's {model.context}")
        executor = Executor(
            model, params, shape, end_of_turn=end_of_turn, vocab=vocab, mesh=mesh, dtype=dtype, whole=whole
        )
        self._begin(executor, grammar, None)

    @classmethod
    def of(cls, executor: Executor, grammar: Grammar | None = None, relay: Relay | None = None) -> Engine:
        """An engine that schedules for `executor`. With a `relay` the other processes run its plans too."""
        engine = cls.__new__(cls)
        engine._begin(executor, grammar, relay)
        return engine

    def _begin(self, executor: Executor, grammar: Grammar | None, relay: Relay | None) -> None:
        self._executor, self._grammar, self._relay = executor, grammar, relay
        self.shape = executor.shape
        self.context = self.shape.context
        self.slots = self.shape.rows * self.shape.shares
        self._end_of_turn = executor.end_of_turn
        self._ends = tuple(sorted(executor.end_of_turn))
        self._known = executor.model.vocab  # ids below it have an embedding
        self._words = words_of(executor.model)
        self._shares = [Share(self.shape) for _ in range(self.shape.shares)]
        self._waiting: deque[Sequence] = deque()
        self._finished: dict[int, dict[int, Completion]] = {}
        self._done: list[tuple[int, list[Completion]]] = []  # for the next step to return
        self._deltas: list[tuple[int, Delta]] = []
        self._tickets = 0
        self.prefilled = 0  # prompt tokens that were computed
        self.found = 0  # prompt tokens that the pages already held

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._waiting or self._done or any(share.running for share in self._shares))

    @property
    def state(self) -> EngineState:
        """What is under way, and what is free."""
        return state_of(self._shares, self.prefilled, self.found)

    @property
    def decoded(self) -> dict[int, int]:
        """The number of tokens drawn, by process."""
        return self._executor.decoded

    @property
    def compiled(self) -> str:
        """How many programs were compiled, of how many there can be, as text."""
        return f"{self._executor.compiled} of at most {self._executor.most_compiled} programs compiled"

    def submit(self, request: Request) -> int:
        """Queue a request and return its ticket. Raises InputError if the prompt is empty, leaves no room or has ids
        that the model does not know, or a value is out of its bounds, and ConstraintError if its constraint cannot be
        kept."""
        room = self.context - len(request.prompt)
        if not request.prompt or room < min(request.sampling.max_tokens, 1):
            raise InputError(
                f"prompt of {len(request.prompt)} tokens: it must have at least 1 and leave room in the context of "
                f"{self.context} tokens; shorten the dialogue or raise the context"
            )
        if request.n < 1:
            raise InputError(f"n {request.n} must be at least 1")
        if not MIN_SEED <= request.seed <= MAX_SEED:
            raise InputError(f"seed {request.seed} must be between {MIN_SEED} and {MAX_SEED}")
        request.sampling.check()
        if unknown := [token for token in (min(request.prompt), max(request.prompt)) if not 0 <= token < self._known]:
            raise InputError(
                f"prompt with the token id {unknown[0]}: the model's vocab_size is {self._known}; leave special tokens "
                "that it does not know out of the text"
            )
        sampling, most = request.sampling, min(request.sampling.max_tokens, room)
        for name, ids in sampling.named.items():
            if unknown := [token for token in ids if not 0 <= token < self._known]:
                raise InputError(f"{name} with the token id {unknown[0]}: the model's vocab_size is {self._known}")
        matcher = self._grammar_of(request).matcher(request.constraint) if request.constraint else None
        # Nothing is refused from here on.
        self._tickets += 1
        self._finished[self._tickets] = {}
        # A text that must end has nothing else to draw than the end.
        default = frozenset() if sampling.ignore_eos and matcher is None else self._end_of_turn
        ends = default | set(sampling.stop_token_ids)
        for index in range(request.n):
            key = np.asarray(_key_data(request.seed, index))
            own = matcher and (matcher.copy() if request.n > 1 else matcher)
            self._waiting.append(Sequence(self._tickets, index, request, most, key, ends, own))
        return self._tickets

    def cancel(self, ticket: int) -> None:
        """Forget a request; its pages become free. Unknown tickets are ignored."""
        self._waiting = deque(sequence for sequence in self._waiting if sequence.ticket != ticket)
        for share in self._shares:
            for sequence in [running for running in share.running if running.ticket == ticket]:
                share.release(sequence)
        self._finished.pop(ticket, None)
        self._done = [each for each in self._done if each[0] != ticket]
        self._deltas = [each for each in self._deltas if each[0] != ticket]

    def stop(self, ticket: int, index: int) -> None:
        """End one completion with what it has, as "stop"; its pages become free. One that has ended is ignored."""
        for share in self._shares:
            for sequence in [each for each in share.running if (each.ticket, each.index) == (ticket, index)]:
                share.release(sequence)
                self._finish(sequence, "stop")
        for sequence in [each for each in self._waiting if (each.ticket, each.index) == (ticket, index)]:
            self._waiting.remove(sequence)
            self._finish(sequence, "stop")

    def streamed(self) -> list[tuple[int, Delta]]:
        """What the streamed requests got since the last call, by ticket, in order."""
        deltas, self._deltas = self._deltas, []
        return deltas

    def step(self) -> list[tuple[int, list[Completion]]]:
        """(ticket, completions) of the requests that finish, after starting those that fit, running some chunks of
        their prompts and decoding one burst."""
        self._admit()
        self._prefill()
        self._end_unsampled()
        self._burst()
        done, self._done = self._done, []
        return done

    def generate(self, requests: list[Request]) -> list[list[Completion]]:
        """Completions of each request, in order; for callers without a queue of their own."""
        tickets = [self.submit(request) for request in requests]
        results: dict[int, list[Completion]] = {}
        while self.busy:
            results.update(self.step())
        return [results[ticket] for ticket in tickets]

    @property
    def memory(self) -> str:
        """What parameters and cache take, over all devices, as text."""
        return self._executor.memory

    def load(self, params: decoder.Params) -> None:
        """Replace the parameters; nothing that was computed with earlier ones is used again. The engine may not be
        busy, and on several processes every one has to load them."""
        self.unload()
        self._executor.load(params)

    def unload(self) -> None:
        """Free the memory of parameters and cache until others are loaded. The engine may not be busy."""
        assert not self.busy, "parameters are replaced between requests"
        for share in self._shares:
            share.tree.clear()
        self._executor.unload()

    def warm_up(self, options: bool = False) -> None:
        """Compile every program, so that no request waits for it; those for sampling options and scored prompts only
        with `options`."""
        for rows in self.shape.row_buckets:
            plan = plans.idle_rows(rows * self.shape.shares, self.shape.width)
            self._run(plan)
            if options:
                self._run(plans.with_options(plan, self.shape.context, self._ends))
        for chunks in self.shape.chunk_buckets:
            prefill = plans.no_chunks(chunks * self.shape.shares, self.shape)
            self._run(prefill)
            if options:
                self._run(plans.with_targets(prefill))
        self._copy([[] for _ in self._shares])

    def close(self) -> None:
        """Free the memory of parameters and cache, even while the engine is referenced. It cannot decode afterwards."""
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        self._executor.close()

    def _run(self, plan: Plan) -> Drawn | Scores | None:
        with self._relay.running(plan) if self._relay else nullcontext():
            return self._executor.run(plan)

    def _grammar_of(self, request: Request) -> Grammar:
        if self._grammar is None:
            raise ConstraintError("replies cannot be constrained: the engine was made without a grammar")
        return self._grammar

    def _admit(self) -> None:
        """Start waiting sequences, in order, while there are rows and pages for them. One that waits for another's
        prompt lets later ones pass; one that waits for pages does not, or short ones could keep it waiting for ever."""
        copies: list[list[tuple[int, int]]] = [[] for _ in self._shares]
        passed: list[Sequence] = []
        while self._waiting and len(passed) < self.slots and not all(share.full for share in self._shares):
            places = self._places(self._waiting[0])
            if places and not self._start(self._waiting[0], places, copies):
                break
            sequence = self._waiting.popleft()
            if not places:
                passed.append(sequence)
        self._waiting.extendleft(reversed(passed))
        if any(copies):
            self._copy(copies)

    def _places(self, sequence: Sequence) -> list[tuple[int, Found]]:
        """The shares that a sequence could start in, by number and what they hold of its prompt: the one that holds
        most comes first, or one with fewer sequences where that outweighs it. None if it has to wait for a prompt."""
        places = []
        for number, share in enumerate(self._shares):
            if not share.full and (found := share.find(sequence)) is not None:
                held = len(found.full) * self.shape.page + found.common
                places.append((UNEVEN * len(share.running) - held, number, found))
        return [(number, found) for _, number, found in sorted(places, key=lambda place: place[:2])]

    def _start(self, sequence: Sequence, places: list[tuple[int, Found]], copies: list[list[tuple[int, int]]]) -> bool:
        """Start a sequence in the first of the places that has the pages. False if none has."""
        for number, found in places:
            if (copied := self._shares[number].admit(sequence, found)) is not None:
                copies[number] += copied
                self.found += sequence.ran
                return True
        return False

    def _copy(self, copies: list[list[tuple[int, int]]]) -> None:
        """Copy pages within each share, a fixed number at a time; the scratch page fills up."""
        groups = [_independent(share) for share in copies]
        for number in range(max(map(len, groups))):
            parts = [share[number] if number < len(share) else [] for share in groups]
            padded = [pair for part in parts for pair in (*part, *((SCRATCH, SCRATCH),) * (COPIES - len(part)))]
            source, target = np.array(padded, np.int32).T
            self._run(Copy(source, target))

    def _prefill(self) -> None:
        """Run some chunks of the prompts of admitted sequences."""
        size = self.shape.chunk
        waiting = [[each for each in share.running if not each.decodes] for share in self._shares]
        decoding = sum(len(share.running) for share in self._shares) - sum(map(len, waiting))
        most = plans.MOST_CHUNKS if decoding <= sum(map(len, waiting)) else SHORT
        chunks: list[list[Chunk]] = [[] for _ in self._shares]
        for found, sequences in zip(chunks, waiting, strict=True):
            for sequence in sequences:
                body = len(sequence.body)
                starts = range(sequence.ran, body, size)[: most - len(found)]
                found += [(sequence, start, min(size, body - start)) for start in starts]
        while any(chunks):
            bucket = _bucket(max(map(len, chunks)), self.shape.chunk_buckets)
            self._prefill_some([found[:bucket] for found in chunks], bucket)
            chunks = [found[bucket:] for found in chunks]

    def _prefill_some(self, chunks: list[list[Chunk]], bucket: int) -> None:
        """Run one program with at most `bucket` chunks per share."""
        scores = self._run(prefill_plan(self.shape, self._shares, chunks, bucket))
        for number, (share, found) in enumerate(zip(self._shares, chunks, strict=True)):
            for row, (sequence, _, count) in enumerate(found, number * bucket):
                share.prefilled(sequence, count)
                self.prefilled += count
                if isinstance(scores, Scores) and sequence.request.score:
                    sequence.record_scores(jax.tree.map(lambda leaf, row=row, count=count: leaf[row, :count], scores))

    def _end_unsampled(self) -> None:
        """Finish the requests for a prompt alone whose prompts were run."""
        for share in self._shares:
            for sequence in [each for each in share.running if each.decodes and not each.most]:
                share.release(sequence)
                self._finish(sequence, "length")

    def _burst(self) -> None:
        """Decode all sequences whose prompts were run for some steps."""
        rows = [[each for each in share.running if each.decodes] for share in self._shares]
        if not any(rows):
            return
        plan = burst_plan(self.shape, self._shares, rows, self._words, self._ends)
        drawn = self._run(plan)
        assert isinstance(drawn, Drawn)
        for number, (share, sequences) in enumerate(zip(self._shares, rows, strict=True)):
            first = number * (len(plan.token) // self.shape.shares)
            for row, sequence in enumerate(sequences, first):
                going = drawn.going[:, row]
                sequence.record(jax.tree.map(lambda leaf, row=row, going=going: leaf[going, row], drawn.sampled))
                share.decoded(sequence, int(going.sum()))
                if reason := self._reason(sequence):
                    share.release(sequence)
                    self._finish(sequence, reason)
                else:
                    self._tell(sequence)

    def _reason(self, sequence: Sequence) -> str | None:
        """Why a sequence ends behind its last token; None if it goes on."""
        last = sequence.token_ids[-1]
        if last in sequence.ends:
            return "stop"
        if len(sequence.token_ids) >= sequence.most or (sequence.matcher and not sequence.matcher.take(last)):
            return "length"
        return None

    def _finish(self, sequence: Sequence, reason: str) -> None:
        self._tell(sequence, reason)
        parts = self._finished[sequence.ticket]
        parts[sequence.index] = sequence.completion(reason)
        if len(parts) == sequence.request.n:
            del self._finished[sequence.ticket]
            self._done.append((sequence.ticket, [parts[index] for index in range(sequence.request.n)]))

    def _tell(self, sequence: Sequence, reason: str | None = None) -> None:
        """Keep what a streamed sequence got since the last time for `streamed`."""
        if sequence.request.stream:
            self._deltas.append((sequence.ticket, sequence.delta(reason)))


@functools.lru_cache(maxsize=1024)
def _key_data(seed: int, index: int) -> UInt32[np.ndarray, 2]:
    """The data of a completion's key. A seed of 32 bits gives the key that `jax.random.key` makes of it."""
    words = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
    return np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(words), index)))


def _bucket(number: int, buckets: tuple[int, ...]) -> int:
    """The bucket for `number` chunks: the next larger one if at most a quarter of it stays empty, else the next smaller
    one, and the rest follows."""
    above = next((size for size in buckets if size >= number), buckets[-1])
    return above if 4 * number >= 3 * above else max(size for size in buckets if size < above)


def _independent(copies: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Copies in groups that each can be done at once: none reads what another one of its group writes."""
    groups: list[list[tuple[int, int]]] = [[]]
    for source, target in copies:
        if len(groups[-1]) == COPIES or source in {written for _, written in groups[-1]}:
            groups.append([])
        groups[-1].append((source, target))
    return groups
