"""Growing a pool: a model is asked for new entries in rounds, and what keeps the rules and is new is taken."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from data_gen.personas.attributes import draw_attributes
from data_gen.personas.encoder import Encoder
from data_gen.personas.entry import Entry, Kind, make_entry, read_seeds
from data_gen.personas.filter import Pool, Verdict, calibrate, distribution, nearest_neighbours
from data_gen.personas.propose import parse_proposals, proposal_messages, proposal_schema
from data_gen.personas.rules import broken_rule
from data_gen.seeds import stable_seed

EXAMPLES = 5  # pool entries shown in a round; paper, section 1
Ask = Callable[[Sequence[Message], Mapping[str, Any], int], Awaitable[str]]


@dataclass(frozen=True)
class GrowConfig:
    """`target` entries, the seeds counted; at most `rounds` rounds of `proposals` each, `concurrency` at once.
    `quantile` is that of `calibrate`. Saturated means that of the proposals asked for in the last `saturation_rounds`
    rounds fewer than the share `saturation_rate` were taken."""

    target: int
    rounds: int
    proposals: int
    concurrency: int
    quantile: float
    saturation_rounds: int
    saturation_rate: float

    def __post_init__(self) -> None:
        for name in ("target", "proposals", "concurrency", "saturation_rounds"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least 1")

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> GrowConfig:
        return cls(**{field.name: section[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class PoolResult:
    """The pool, seeds first, and how it came about. `vectors` are those of `entries`; `distribution` is that of their
    nearest-neighbour cosines, `seed_distribution` the seeds', from which `threshold` was taken."""

    entries: tuple[Entry, ...]
    vectors: Float[np.ndarray, "N D"]
    threshold: float
    distribution: Mapping[str, float]
    seed_distribution: Mapping[str, float]
    rejects: Mapping[str, int]
    rounds: int
    stopped: Literal["target", "saturated", "rounds"]


async def grow_pool(
    kind: Kind,
    ask: Ask,
    encoder: Encoder,
    config: GrowConfig,
    seed: int,
    record: Callable[[dict[str, Any]], None],
    progress: Callable[[int, int, str], None],
    seeds: Sequence[Entry] | None = None,
) -> PoolResult:
    """Grow the pool of `kind` from `seeds`, by default the hand-written ones, until one of `config`'s ends.

    `ask(messages, schema, seed)` gives a model's answer as text. Equal answers give equal pools, however many rounds
    run at once and in whatever order they come back: a round is shown entries of the pool as it was when the round
    `concurrency` before it had been taken in, and rounds are taken in one after the other. What `ask` raises is raised
    here; rounds that are under way when the pool ends are cancelled.

    `record` gets an event for each entry taken and each proposal rejected, `progress` the entries, the target and a
    note. Where there are more seeds than `target`, the first are the pool. InputError for fewer than two seeds.
    """
    start = read_seeds(kind) if seeds is None else tuple(seeds)
    seed_vectors = await asyncio.to_thread(encoder.encode, [entry.text for entry in start])
    pool = Pool(calibrate(seed_vectors, config.quantile))
    for entry, vector in list(zip(start, seed_vectors, strict=True))[: config.target]:
        pool.add(entry, vector)
    growth = _Growth(kind, encoder, pool, config.target, record)
    under_way: deque[tuple[list[dict[str, str]], asyncio.Task[str]]] = deque()
    taken: deque[int] = deque(maxlen=config.saturation_rounds)
    launched = finished = 0

    async def one(messages: Sequence[Message], number: int) -> str:
        return await ask(messages, proposal_schema(kind, config.proposals), stable_seed(seed, kind, "round", number))

    def launch(number: int) -> None:
        first = number * config.proposals
        attributes = [draw_attributes(kind, seed, first + place) for place in range(config.proposals)]
        rng = random.Random(f"examples {kind} {seed} {number}")
        examples = rng.sample(pool.entries, min(EXAMPLES, len(pool.entries)))
        messages = proposal_messages(kind, attributes, examples, config.proposals)
        under_way.append((attributes, asyncio.ensure_future(one(messages, number))))

    def stopped() -> Literal["target", "saturated", "rounds"] | None:
        if len(pool.entries) >= config.target:
            return "target"
        asked = config.proposals * config.saturation_rounds
        if len(taken) == config.saturation_rounds and sum(taken) < config.saturation_rate * asked:
            return "saturated"
        return "rounds" if finished >= config.rounds else None

    try:
        while (reason := stopped()) is None:
            while launched < min(config.rounds, finished + config.concurrency):
                launch(launched)
                launched += 1
            attributes, task = under_way.popleft()
            taken.append(await growth.take(finished, await task, attributes))
            finished += 1
            progress(len(pool.entries), config.target, f"{kind} entries, {finished} rounds")
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)
    return PoolResult(
        entries=tuple(pool.entries),
        vectors=pool.vectors,
        threshold=pool.threshold,
        distribution=distribution(nearest_neighbours(pool.vectors)) if len(pool.entries) > 1 else {},
        seed_distribution=distribution(nearest_neighbours(seed_vectors)),
        rejects=dict(sorted(growth.rejects.items())),
        rounds=finished,
        stopped=reason,
    )


@dataclass
class _Growth:
    """Takes answers into a pool."""

    kind: Kind
    encoder: Encoder
    pool: Pool
    target: int
    record: Callable[[dict[str, Any]], None]

    def __post_init__(self) -> None:
        self.rejects: Counter[str] = Counter()

    async def take(self, number: int, answer: str, attributes: Sequence[Mapping[str, str]]) -> int:
        """Offer the people in the answer of round `number` to the pool, in order; returns how many it took."""
        people = parse_proposals(answer)
        if not people:
            self._reject(number, "unreadable", answer)
        sound: list[Entry] = []
        for place, items in enumerate(people):
            if rule := broken_rule(self.kind, items):
                self._reject(number, f"rule: {rule}", " ".join(items))
                continue
            drawn = attributes[place] if place < len(attributes) else {}
            sound.append(make_entry(self.kind, items, drawn, "generated"))
        # a thread, so that other rounds' answers are read meanwhile
        vectors = await asyncio.to_thread(self.encoder.encode, [entry.text for entry in sound])
        before = len(self.pool.entries)
        for entry, vector in zip(sound, vectors, strict=True):
            if len(self.pool.entries) >= self.target:
                break
            verdict = self.pool.offer(entry, vector)
            if verdict.reason:
                self._reject(number, verdict.reason, entry.text, verdict)
                continue
            event: dict[str, Any] = {
                "event": "accept",
                "kind": self.kind,
                "round": number,
                "id": entry.id,
                "text": entry.text,
            }
            event |= {"items": list(entry.items), "attributes": dict(entry.attributes)}
            self.record(event | {"similarity": verdict.similarity, "nearest": verdict.nearest})
        return len(self.pool.entries) - before

    def _reject(self, number: int, reason: str, text: str, verdict: Verdict | None = None) -> None:
        self.rejects[reason] += 1
        event: dict[str, Any] = {"event": "reject", "kind": self.kind, "round": number, "reason": reason, "text": text}
        measured = {"similarity": verdict.similarity, "nearest": verdict.nearest} if verdict else {}
        self.record(event | {"similarity": None, "nearest": None} | measured)
