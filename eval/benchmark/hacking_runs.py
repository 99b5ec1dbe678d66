"""Probing the follow-up questions of a run's models, after their dialogues were played."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.run.stage import Run
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.train.names import BASE
from aloe_jax.tree.schema import Persona, read_trees
from data_gen.calls.store import Store
from data_gen.concurrency import gather_all
from data_gen.players.assemble import assemble, model_roles, player_of, role_clients
from eval.benchmark.cases import TREES
from eval.benchmark.controls import tested_under
from eval.benchmark.entries import Entry
from eval.benchmark.hacking import HACKING, FollowUp, Hacking, follow_ups, read_hacking
from eval.benchmark.opening import model_client, recorded
from eval.benchmark.settings import BenchmarkSettings


def unprobed(run: Run, wanted: Mapping[Entry, int]) -> list[Entry]:
    """The models whose follow-up questions are still to be probed, or of fewer cases than `wanted`."""
    if not run.section("benchmark", BenchmarkSettings).hacking:
        return []
    folder = run.directory("benchmark")
    found = {entry: read_hacking(folder / entry.name) for entry in wanted if entry.model and not entry.control}
    return [entry for entry, known in found.items() if known is None or known.cases < wanted[entry]]


def probe_questions(run: Run, entry: Entry, personas: Sequence[Persona]) -> None:
    """Write `hacking.json` of a model whose dialogues are played."""
    assert entry.model is not None
    directory = run.directory("benchmark") / entry.name
    with ExitStack() as opened:
        tested = opened.enter_context(model_client(run, entry.model))
        own = tested if entry.model.name == BASE else None
        users = [role for role in model_roles(run) if role == "user"]
        clients = opened.enter_context(role_clients(run, users, own))
        store = opened.enter_context(Store(Path(directory)))
        found = asyncio.run(_probed(run, directory, personas, tested, clients, store))
    files.write_json(directory / HACKING, found.model_dump(mode="json"))


async def _probed(
    run: Run,
    directory: epath.Path,
    personas: Sequence[Persona],
    tested: ChatClient,
    clients: Mapping[str, ChatClient],
    store: Store,
) -> Hacking:
    settings = run.section("benchmark", BenchmarkSettings)
    under_way, trees = asyncio.Semaphore(settings.concurrency), list(read_trees(directory / TREES))
    async with assemble(run, clients, store) as cast, recorded(run, tested, store, tested in cast.clients) as chat:
        user = player_of(run, cast, "user", "benchmark user")
        model = tested_under("", chat, replace(settings, temperature=0.0), personas, {})

        async def one(place: int) -> list[FollowUp]:
            async with under_way:
                return await follow_ups(trees[place], model, user, personas, run.seed)

        found = await gather_all(map(one, range(len(trees))))
    return Hacking(cases=len(trees), follow_ups=tuple(each for case in found for each in case))
