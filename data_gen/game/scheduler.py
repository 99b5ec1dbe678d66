"""Growing as many conversations as are wanted, many at a time. All state is in files, so that a run can be killed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aloe_jax import files
from aloe_jax.errors import AloeError, InputError
from aloe_jax.serve.client.call_errors import CallError
from aloe_jax.tree.schema import Persona, dump
from data_gen.calls.given_up import Endings
from data_gen.calls.store import EVENTS, GIVEN_UP, NODES, REMEDY, Store
from data_gen.game.tree_growth import Shape, grow
from data_gen.personas.split import spread
from data_gen.roles import Roles

Shard = tuple[int, int]  # number, from 0, and count
_SHARD = re.compile(r"(\d+)/(\d+)")


def parse_shard(text: str) -> Shard:
    """The shard that `NUMBER/COUNT` names, numbers from 0. InputError for any other text."""
    found = _SHARD.fullmatch(text)
    if not found or not int(found[1]) < int(found[2]):
        raise InputError(f"--shard: '{text}' must be NUMBER/COUNT with NUMBER from 0 to COUNT - 1, for example 0/4")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class Candidates:
    """The conversations that may be begun, in order: one per persona, then each persona again, `limit` in all. A shard
    has every `shard[1]`-th of them, and its share of those `wanted`."""

    personas: Sequence[Persona]
    wanted: int
    limit: int
    shard: Shard = (0, 1)

    @property
    def share(self) -> int:
        """The number of conversations that this shard is to accept."""
        number, shards = self.shard
        return len(range(number, self.wanted, shards))

    def __iter__(self) -> Iterator[tuple[str, Persona]]:
        for number in range(self.shard[0], self.limit, self.shard[1]):
            yield conversation_name(number, self.personas), self.personas[number % len(self.personas)]


def conversation_name(number: int, personas: Sequence[Persona]) -> str:
    """The id of a conversation: the number of its candidate, and its persona."""
    return f"c{number:05d}-{personas[number % len(personas)].id}"


def in_order(personas: Sequence[Persona], seed: int, begun: Iterable[str]) -> Sequence[Persona]:
    """The personas in the order in which conversations are begun: spread over profiles and personalities.

    An older run took them as listed. One that was interrupted continues so: the ids of the conversations `begun` tell.
    """
    found, ordered = list(begun), spread(personas, seed)

    def followed(order: Sequence[Persona]) -> bool:
        return all(name == conversation_name(int(name[1:].partition("-")[0]), order) for name in found)

    return personas if not followed(ordered) and followed(personas) else ordered


class Events(Protocol):
    """What is called while conversations grow."""

    def noted(self, ledger: str, record: Mapping[str, object]) -> None:
        """A new record of a ledger."""
        ...

    def grown(self, name: str, node: str) -> None:
        """A turn of the conversation `name` is complete, whose user message has the id `node`."""
        ...

    def ended(self, name: str, accepted: bool) -> None:
        """The conversation `name` has ended."""
        ...


class Scheduler:
    """Grows conversations and appends the accepted ones to `path`. Which ones are accepted depends only on the roles'
    answers: a candidate is begun only while those accepted and those under way are fewer than wanted, so that the
    candidates begun are always the shortest prefix of the list that has enough."""

    def __init__(self, path: Path, store: Store, shape: Shape, seed: int, concurrency: int) -> None:
        self.path, self.store, self.shape, self.seed, self.concurrency = path, store, shape, seed, concurrency
        self.endings = Endings("conversations")
        # Conversations given up for a server since the last one that was accepted. They count once the server is known
        # to do for others; where the run stops before, they are tried again.
        self._unsure: list[tuple[str, CallError]] = []
        files.repair_lines(path)
        self.accepted = set(identities(path)) if path.exists() else set[str]()

    async def run(self, candidates: Candidates, roles: Roles, events: Events) -> int:
        """Grow until the share is accepted or the candidates are used up; returns the number of accepted ones. Raises
        InputError or ResumableError where most conversations are given up for a server."""
        accepted, under_way = 0, set[asyncio.Task[bool]]()
        remaining = iter(candidates)
        try:
            while True:
                while len(under_way) < self.concurrency and accepted + len(under_way) < candidates.share:
                    candidate = next(remaining, None)
                    if candidate is None:
                        break
                    name, persona = candidate
                    if name in self.accepted:
                        accepted += 1
                    elif not self.store.has(EVENTS, name + GIVEN_UP):
                        grown = self._one(name, persona, roles, events, candidates.personas)
                        under_way.add(asyncio.create_task(grown))
                if not under_way:
                    self._end(accepted, events)
                    return accepted
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                accepted += sum(task.result() for task in done)
                if (problem := self.endings.stop) is not None:
                    raise problem
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _one(self, name: str, persona: Persona, roles: Roles, events: Events, others: Sequence[Persona]) -> bool:
        def note(ledger: str, key: str, record: dict[str, object]) -> None:
            if self.store.add(ledger, key, record):
                events.noted(ledger, record)
            if ledger == NODES and record["role"] == "user":
                events.grown(name, str(record["id"]))

        tree = failure = None
        try:
            tree = await grow(name, persona, roles, self.shape, self.seed, note, others)
        except CallError as error:
            failure = error
            self._unsure.append((name, error))
        self.endings.add(failure)
        if tree is not None:
            files.append_line(self.path, dump(tree))
            self.accepted.add(name)
            self._give_up(events)
        events.ended(name, tree is not None)
        return tree is not None

    def _give_up(self, events: Events) -> None:
        """Note the conversations given up for a server, which does for others."""
        for name, error in self._unsure:
            record = {"event": "given_up", "conversation": name, "reason": error.kind, "said": str(error)}
            if self.store.add(EVENTS, name + GIVEN_UP, record):
                events.noted(EVENTS, record)
        self._unsure.clear()

    def _end(self, accepted: int, events: Events) -> None:
        if accepted:
            self._give_up(events)
        elif self._unsure:
            failures = [error for _, error in self._unsure]
            raise self.endings.error(failures, max(len(failures), self.endings.ended))


def identities(path: Path) -> dict[str, tuple[int, int]]:
    """Position and length of the line of each conversation in a trees.jsonl, by its id. Raises InputError for a line
    that holds none."""
    found, place = dict[str, tuple[int, int]](), 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                name = json.loads(line.decode("utf-8"))["id"]
                if not isinstance(name, str) or name in found:
                    raise ValueError
            except (ValueError, TypeError, KeyError, RecursionError):
                raise InputError(f"{path} line {number}: no conversation with an id of its own; {REMEDY}") from None
            found[name] = (place, len(line))
            place += len(line)
    return found


def put_in_order(path: Path) -> int:
    """Sort the conversations of a trees.jsonl into the order of their candidates, with one in memory at a time; returns
    their number."""
    places = identities(path)
    with open(path, "rb") as file:

        def lines() -> Iterator[str]:
            for name in sorted(places, key=_rank):
                file.seek(places[name][0])
                yield file.read(places[name][1]).decode().rstrip("\n")

        return files.write_lines(path, lines())


def _rank(name: str) -> tuple[int, str]:
    """Sorts the ids of `conversation_name` by their number, which has five digits or more."""
    return len(name.partition("-")[0]), name


def too_few(accepted: int, share: int, store: Store) -> AloeError | None:
    """The error if nothing at all was accepted; else None."""
    if accepted or not share:
        return None
    return AloeError(
        f"no conversation was accepted; {store.directory}/rejects.jsonl and events.jsonl say why (lower "
        "config.tree.min_turns, raise config.tree.attempts, leave out some of config.tree.guards, or use another model)"
    )
