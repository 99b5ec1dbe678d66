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
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.tree.schema import Conversation, Message, Node, Persona, Score, dump, read_trees, write_records
from data_gen.players.responder import ModelResponder
from data_gen.players.table import load_prompt
from data_gen.roles import Judge, User, calls_of
from data_gen.seeds import stable_seed
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.scores import ScoreRecord
from eval.benchmark.settings import BenchmarkSettings

TREES, SCORES, METRICS = "trees.jsonl", "scores.jsonl", "metrics.json"


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
                    flags=("truncated",) if reply.truncated else (),
                )
            )
            dialogue.append(Message(role="assistant", content=reply.text))
        return Conversation(id=persona.id, persona=persona, nodes=tuple(nodes), path=tuple(node.id for node in nodes))

    async def run(self, client: ChatClient, directory: epath.Path, progress: Callable[[int, int], None]) -> None:
        """Play the cases that are not in `directory` yet with an entered client; each finished one is appended at
        once."""
        path = directory / TREES
        directory.mkdir(parents=True, exist_ok=True)
        files.repair_lines(path)
        done = {tree.id for tree in read_trees(path)} if path.exists() else set()
        under_way = asyncio.Semaphore(self.settings.concurrency)

        async def one(persona: Persona) -> None:
            async with under_way:
                tree = await self.case(persona, client)
            files.append_line(path, dump(tree))
            done.add(persona.id)
            progress(len(done), len(self.personas))

        async with asyncio.TaskGroup() as tasks:
            for persona in self.personas:
                if persona.id not in done:
                    tasks.create_task(one(persona))


def summarise(personas: Sequence[Persona], resamples: int, seed: int, directory: epath.Path) -> Metrics:
    """The metrics of the dialogues in `directory`, where scores.jsonl and metrics.json are written."""
    trees = {tree.id: tree for tree in read_trees(directory / TREES)}
    ordered = [trees[persona.id] for persona in personas]
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
    files.write_lines(directory / SCORES, (files.json_line(record.model_dump(mode="json")) for record in records))
    result = metrics(records, resamples, seed)
    files.write_json(directory / METRICS, result.model_dump(mode="json"))
    return result
