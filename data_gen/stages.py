"""The stages `personas` and `conversations`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.client import Client
from aloe_jax.serve.local import local_client
from aloe_jax.train.stages import chat_format, load_stage_params, model_config, model_inputs, own_mesh
from aloe_jax.tree.schema import Conversation, Persona, dump, read_personas, read_trees, write_records
from data_gen.grow import Roles, TreeConfig, grow, stable_seed
from data_gen.responder import ModelResponder, hint_template
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.user import ScriptedUser

PERSONAS, HELD_OUT, TREES = "personas.jsonl", "benchmark.jsonl", "trees.jsonl"


def _personas(run: Run) -> dict[str, Any]:
    section, directory, seed = run.section("personas"), run.directory("personas"), run.config["seed"]
    train = scripted_personas(
        "train", section["profiles"], section["personalities"], seed, pairings=section["pairings"]
    )
    held_out = scripted_personas("benchmark", section["benchmark_profiles"], section["benchmark_personalities"], seed)
    write_records(directory / HELD_OUT, held_out)
    return {"train": write_records(directory / PERSONAS, train), "benchmark": len(held_out)}


@contextmanager
def base_client(run: Run) -> Iterator[Client]:
    """The serving client of the start model: of the server at `config.serve.base_url`, or of one of our own."""
    section = run.section("serve")
    if section["base_url"]:
        yield Client(section["base_url"], section["model"], concurrency=2 * section["slots"])
        return
    mesh = own_mesh(run)
    params = load_stage_params(run, "base", mesh)
    with local_client(model_config(run), params, chat_format(run), "base", section, mesh) as client:
        yield client


def _check_conversations(run: Run) -> None:
    if source := run.section("conversations")["source"]:
        files.existing(source, "config.conversations.source: file")
        return
    personas = run.section("personas")["profiles"] * run.section("personas")["pairings"]
    run.at_least("conversations", trees=1, turns=1, hinted=0, plain=0, concurrency=1, max_tokens=1)
    run.at_least("serve", slots=1, context=1)
    section = run.section("conversations")
    if section["trees"] > personas:
        raise InputError(
            f"config.conversations.trees: {section['trees']} are more than the {personas} personas; raise "
            "config.personas.profiles or config.personas.pairings"
        )
    if section["hinted"] + section["plain"] < 2:
        raise InputError("config.conversations: hinted and plain together must be at least 2, to have what to compare")


def _conversations(run: Run) -> dict[str, Any]:
    """Grow one tree for each persona, or take the trees of `config.conversations.source`. A finished tree is appended
    at once; what a kill interrupts is grown again from the same seeds. At the end the file is put into the order of
    the personas."""
    section = run.section("conversations")
    path = run.directory("conversations") / TREES
    if section["source"]:
        given = list(read_trees(section["source"]))
        write_records(path, given)
        return _counts(given)
    personas = read_personas(run.directory("personas") / PERSONAS)[: section["trees"]]
    files.repair_lines(path)
    done = {tree.id: tree for tree in read_trees(path)} if path.exists() else {}
    names = [f"c{number:05d}-{persona.id}" for number, persona in enumerate(personas)]
    missing = [(name, persona) for name, persona in zip(names, personas, strict=True) if name not in done]
    if missing:
        with base_client(run) as client:
            asyncio.run(_grow_all(run, client, missing, path, done))
    write_records(path, [done[name] for name in names])
    return _counts(list(done.values()))


async def _grow_all(
    run: Run,
    client: Client,
    missing: Sequence[tuple[str, Persona]],
    path: epath.Path,
    done: dict[str, Conversation],
) -> None:
    section, seed = run.section("conversations"), run.config["seed"]
    shape, total = TreeConfig.from_config(section), len(missing) + len(done)
    under_way = asyncio.Semaphore(section["concurrency"])

    async def one(name: str, persona: Persona) -> None:
        async with under_way:
            tree = await grow(name, persona, roles, shape, seed)
        files.append_line(path, dump(tree))
        done[name] = tree
        rate = f"trees, {client.completions.calls} calls, {client.completions.tokens_out} tokens sampled"
        run.progress.update(len(done), total, rate)

    async with client:
        judge = ScriptedJudge()
        roles = Roles(
            ScriptedUser(seed=stable_seed(seed, "user")), ScriptedInducer(), ModelResponder(client, section), judge
        )
        run.progress.update(len(done), total, "trees")
        async with asyncio.TaskGroup() as tasks:
            for name, persona in missing:
                tasks.create_task(one(name, persona))


def _counts(trees: Sequence[Conversation]) -> dict[str, Any]:
    replies = [node for tree in trees for node in tree.replies()]
    scores: dict[str, list[float]] = {}
    for node in replies:
        if node.condition is not None and node.value is not None:
            scores.setdefault(node.condition, []).append(node.value)
    compared = {
        name
        for tree in trees
        for pair in tree.preferences
        for name in ((tree.id, pair.chosen), (tree.id, pair.rejected))
    }
    return {
        "trees": len(trees),
        "replies": len(replies),
        "preferences": sum(len(tree.preferences) for tree in trees),
        "truncated": sum("truncated" in node.flags for node in replies),
        "mean_score": {condition: round(fmean(values), 3) for condition, values in sorted(scores.items())},
        "dropped": {
            "empty": sum("empty" in node.flags for node in replies),
            "never_compared": len(replies) - len(compared),
        },
    }


def _inputs(run: Run) -> dict[str, str]:
    source = run.section("conversations")["source"]
    if source:
        return {"source": files.hash_file(source)}
    return model_inputs(run) | {"responder_template": files.sha256(hint_template())}


STAGES = (
    Stage("personas", (), ("personas", "seed"), _personas, outputs=(PERSONAS, HELD_OUT)),
    Stage(
        "conversations",
        ("personas",),
        ("model", "template", "serve", "conversations", "seed"),
        _conversations,
        _inputs,
        (TREES,),
        _check_conversations,
    ),
)
