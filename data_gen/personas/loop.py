"""The loop that grows a pool: a model proposes entries in rounds; new ones that keep the rules are taken."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

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
from data_gen.personas.settings import PersonaSettings
from data_gen.seeds import stable_seed

EXAMPLES = 5  # pool entries shown per round; paper, section 1
Ask = Callable[[Sequence[Message], Mapping[str, object], int], Awaitable[str]]
StopReason = Literal["target", "saturated", "rounds"]


class Accepted(TypedDict):
    """An entry that the pool took in a round. `similarity` and `nearest` are those of its verdict."""

    event: Literal["accept"]
    kind: Kind
    round: int
    id: str
    text: str
    items: list[str]
    attributes: dict[str, str]
    similarity: float | None
    nearest: str | None


class Rejected(TypedDict):
    """A proposal that was turned down. `similarity` and `nearest` are None unless the pool compared it."""

    event: Literal["reject"]
    kind: Kind
    round: int
    reason: str
    text: str
    similarity: float | None
    nearest: str | None


OnEvent = Callable[[Accepted | Rejected], None]


@dataclass(frozen=True)
class PoolResult:
    """A pool, seeds first, and how it was made. `vectors` are those of `entries`; `distribution` is that of their
    nearest-neighbour cosines, `seed_distribution` that of the seeds, from which `threshold` was taken."""

    entries: tuple[Entry, ...]
    vectors: Float[np.ndarray, "N D"]
    threshold: float
    distribution: Mapping[str, float]
    seed_distribution: Mapping[str, float]
    rejects: Mapping[str, int]
    rounds: int
    stopped: StopReason


async def grow_pool(
    kind: Kind,
    ask: Ask,
    encoder: Encoder,
    settings: PersonaSettings,
    target: int,
    seed: int,
    record: OnEvent,
    progress: Callable[[int, int, str], None],
    seeds: Sequence[Entry] | None = None,
) -> PoolResult:
    """Grow the pool of `kind` from `seeds`, by default the hand-written ones, to `target` entries, seeds included.

    A round asks for `settings.proposals` entries, and `settings.concurrency` rounds run at once. The growth also ends
    after `settings.rounds` rounds, and when the pool is saturated: fewer than the share `settings.saturation_rate` of
    the proposals asked for in the last `settings.saturation_rounds` rounds were taken.

    `ask(messages, schema, seed)` returns a model's answer as text. Equal answers give equal pools, in whatever order
    they arrive: rounds are taken into the pool one after the other, and a round is shown entries of the pool as it was
    when the round `concurrency` before it had been taken in. What `ask` raises is raised here; rounds that are
    under way when the pool ends are cancelled.

    `record` is called for each entry taken and each proposal rejected, `progress` with the number of entries, the
    target and a note. If there are more seeds than `target`, the first ones are the pool. InputError for a target below
    1 and for fewer than two seeds.
    """
    if target < 1:
        raise InputError(f"target is {target}, expected at least 1")
    start = read_seeds(kind) if seeds is None else tuple(seeds)
    seed_vectors = await asyncio.to_thread(encoder.encode, [entry.text for entry in start])
    pool = Pool(calibrate(seed_vectors, settings.quantile))
    for entry, vector in list(zip(start, seed_vectors, strict=True))[:target]:
        pool.add(entry, vector)
    growth = _Growth(kind, encoder, pool, target, record)
    under_way: deque[tuple[list[dict[str, str]], asyncio.Task[str]]] = deque()
    taken: deque[int] = deque(maxlen=settings.saturation_rounds)
    launched = finished = 0

    async def one(messages: Sequence[Message], number: int) -> str:
        return await ask(messages, proposal_schema(kind, settings.proposals), stable_seed(seed, kind, "round", number))

    def launch(number: int) -> None:
        first = number * settings.proposals
        attributes = [draw_attributes(kind, seed, first + place) for place in range(settings.proposals)]
        rng = random.Random(f"examples {kind} {seed} {number}")
        examples = rng.sample(pool.entries, min(EXAMPLES, len(pool.entries)))
        messages = proposal_messages(kind, attributes, examples, settings.proposals)
        under_way.append((attributes, asyncio.ensure_future(one(messages, number))))

    def stopped() -> StopReason | None:
        if len(pool.entries) >= target:
            return "target"
        asked = settings.proposals * settings.saturation_rounds
        if len(taken) == settings.saturation_rounds and sum(taken) < settings.saturation_rate * asked:
            return "saturated"
        return "rounds" if finished >= settings.rounds else None

    try:
        while (reason := stopped()) is None:
            while launched < min(settings.rounds, finished + settings.concurrency):
                launch(launched)
                launched += 1
            attributes, task = under_way.popleft()
            taken.append(await growth.take(finished, await task, attributes))
            finished += 1
            progress(len(pool.entries), target, f"{kind} entries, {finished} rounds")
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
    record: OnEvent

    def __post_init__(self) -> None:
        self.rejects: Counter[str] = Counter()

    async def take(self, number: int, answer: str, attributes: Sequence[Mapping[str, str]]) -> int:
        """The number of people in the answer of round `number` that the pool took; they are offered in order."""
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
        # in a thread, so that answers of other rounds are read meanwhile
        vectors = await asyncio.to_thread(self.encoder.encode, [entry.text for entry in sound])
        before = len(self.pool.entries)
        for entry, vector in zip(sound, vectors, strict=True):
            if len(self.pool.entries) >= self.target:
                break
            verdict = self.pool.offer(entry, vector)
            if verdict.reason:
                self._reject(number, verdict.reason, entry.text, verdict)
                continue
            self.record(
                {
                    "event": "accept",
                    "kind": self.kind,
                    "round": number,
                    "id": entry.id,
                    "text": entry.text,
                    "items": list(entry.items),
                    "attributes": dict(entry.attributes),
                    "similarity": verdict.similarity,
                    "nearest": verdict.nearest,
                }
            )
        return len(self.pool.entries) - before

    def _reject(self, number: int, reason: str, text: str, verdict: Verdict | None = None) -> None:
        self.rejects[reason] += 1
        self.record(
            {
                "event": "reject",
                "kind": self.kind,
                "round": number,
                "reason": reason,
                "text": text,
                "similarity": verdict.similarity if verdict else None,
                "nearest": verdict.nearest if verdict else None,
            }
        )
