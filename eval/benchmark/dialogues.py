"""The ALOE benchmark: simulated users talk with the model under test, a judge scores each reply (paper, section 4).

Cases are held-out profiles crossed with held-out personalities. The model gets the dialogue alone, without a system
message, and answers through the same client and sharded decoding as in data generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etils import epath

from aloe_jax import files
from aloe_jax.serve.client.call_errors import CallError
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.tree.schema import (
    Conversation,
    Message,
    Node,
    Persona,
    Record,
    Score,
    dump,
    parse,
    read_trees,
    write_records,
)
from data_gen.calls.given_up import Endings
from data_gen.concurrency import gather_all
from data_gen.players.responder import ModelResponder
from data_gen.players.table import load_prompt
from data_gen.roles import Judge, User, calls_of
from data_gen.seeds import stable_seed
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.scores import ScoreRecord
from eval.benchmark.settings import BenchmarkSettings

TREES, SCORES, METRICS = "trees.jsonl", "scores.jsonl", "metrics.json"
GIVEN_UP = "given_up.jsonl"


class GivenUp(Record):
    """A line of `given_up.jsonl`: a case on which a server failed, the reason in a few words, and what was said. Its
    replies count as unscored."""

    case: str
    reason: str
    said: str


@dataclass(frozen=True)
class Benchmark:
    """The cases, and who plays them."""

    personas: Sequence[Persona]
    user: User
    judge: Judge
    settings: BenchmarkSettings
    seed: int

    async def case(self, persona: Persona, client: ChatClient) -> Conversation:
        """The dialogue of one case as a tree without branches, each reply with its score."""
        responder = ModelResponder(client, load_prompt("responder"), self.settings)
        nodes: list[Node] = []
        dialogue: list[Message] = []
        for turn in range(1, self.settings.turns + 1):
            # Equal seeds for every model: all models meet the same users and the same random draws.
            seed = stable_seed(self.seed, persona.id, turn)
            said = await self.user.message(persona, dialogue, seed)
            dialogue.append(Message(role="user", content=said.text))
            parent = nodes[-1].id if nodes else None
            nodes.append(Node(id=f"u{turn}", parent=parent, role="user", text=said.text, calls=said.calls))
            [reply] = await responder.replies(dialogue, None, 1, seed)
            verdict = await self.judge.score(persona, dialogue, reply.text)
            flags = {"truncated": reply.truncated, "thought": reply.thought is not None}
            parts = {"overall": verdict.value} | dict(verdict.criteria)
            nodes.append(
                Node(
                    id=f"a{turn}",
                    parent=f"u{turn}",
                    role="assistant",
                    text=reply.text,
                    token_ids=reply.token_ids,
                    logprobs=reply.logprobs,
                    tokenizer=reply.tokenizer,
                    scores=tuple(Score(judge=self.judge.name, criterion=name, value=v) for name, v in parts.items()),
                    calls=(*calls_of(reply), *verdict.calls),
                    flags=tuple(flag for flag, holds in flags.items() if holds),
                )
            )
            dialogue.append(Message(role="assistant", content=reply.text))
        return Conversation(id=persona.id, persona=persona, nodes=tuple(nodes), path=tuple(node.id for node in nodes))

    async def run(self, client: ChatClient, directory: epath.Path, progress: Callable[[int, int], None]) -> None:
        """Play the cases that are not in `directory` yet with an entered client; each finished one is appended at
        once, and those on which a server failed are noted at the end. Raises InputError or ResumableError where it
        fails on most cases; those are tried again then."""
        path = directory / TREES
        directory.mkdir(parents=True, exist_ok=True)
        files.repair_lines(path)
        done = {tree.id for tree in read_trees(path)} if path.exists() else set()
        under_way = asyncio.Semaphore(self.settings.concurrency)
        endings, given_up = Endings("cases"), dict[str, GivenUp]()

        async def one(persona: Persona) -> None:
            async with under_way:
                try:
                    tree = await self.case(persona, client)
                except CallError as error:
                    endings.add(error)
                    given_up[persona.id] = GivenUp(case=persona.id, reason=error.kind, said=str(error))
                    if (problem := endings.stop) is not None:
                        raise problem from None
                    return
            endings.add(None)
            files.append_line(path, dump(tree))
            done.add(persona.id)
            progress(len(done), len(self.personas))

        await gather_all(one(persona) for persona in self.personas if persona.id not in done)
        if (problem := endings.stop_at_end(len(self.personas))) is not None:
            raise problem
        if given_up or (directory / GIVEN_UP).exists():
            write_records(directory / GIVEN_UP, [given_up[case] for case in sorted(given_up)])


def read_given_up(directory: epath.Path) -> list[GivenUp]:
    """The cases in `directory` on which a server failed."""
    path = directory / GIVEN_UP
    return (
        [parse(GivenUp, line, f"{path} line {number}") for number, line in files.lines(path)] if path.exists() else []
    )


def summarise(personas: Sequence[Persona], resamples: int, seed: int, directory: epath.Path) -> Metrics:
    """The metrics of the dialogues in `directory`, where scores.jsonl and metrics.json are written."""
    trees = {tree.id: tree for tree in read_trees(directory / TREES)}
    ordered = [trees[persona.id] for persona in personas if persona.id in trees]
    given_up = {each.case for each in read_given_up(directory)}
    write_records(directory / TREES, ordered)
    records = [
        ScoreRecord(
            case=tree.id,
            profile=tree.persona.profile,  # type: ignore[union-attr]
            personality=tree.persona.personality,  # type: ignore[union-attr]
            turn=turn,
            score=node.scores[0].value,
        )
        for tree in ordered
        for turn, node in enumerate(tree.replies(), start=1)
    ]
    turns = max((record.turn for record in records), default=0)
    records += [
        ScoreRecord(case=persona.id, profile=persona.profile, personality=persona.personality, turn=turn, score=None)
        for persona in personas
        if persona.id in given_up and persona.id not in trees
        for turn in range(1, turns + 1)
    ]
    files.write_lines(directory / SCORES, (files.json_line(record.model_dump(mode="json")) for record in records))
    result = metrics(records, resamples, seed)
    files.write_json(directory / METRICS, result.model_dump(mode="json"))
    return result
