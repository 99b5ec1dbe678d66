"""The stage `benchmark`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TypedDict

from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import call_identity, model_inputs
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.client.interface import ChatClient
from aloe_jax.serve.local import assist, stage_client
from aloe_jax.tree.schema import Persona, read_personas
from data_gen.calls.given_up import told
from data_gen.calls.store import Store
from data_gen.personas.settings import PersonaSettings
from data_gen.players.assemble import assemble, check_roles, model_roles, player_of, role_clients
from data_gen.run_files import HELD_OUT
from eval.benchmark.dialogues import METRICS, Benchmark, read_given_up, summarise
from eval.benchmark.settings import MODELS, BenchmarkSettings


class _Counts(TypedDict):
    """What the manifest says of the benchmark; `average` is the mean alignment level by model, `given_up` the cases on
    which a server failed, by model and reason; their replies are unscored."""

    cases: int
    turns: int
    average: dict[str, float | None]
    given_up: dict[str, dict[str, int]]


def _check(run: Run) -> None:
    check_roles(run, scripted_personas=run.section("personas", PersonaSettings).source == "scripted")
    if not run.section("benchmark", BenchmarkSettings).models:
        raise InputError(f"config.benchmark.models is empty; choose from {', '.join(MODELS)}")


def _needed_stages(run: Run) -> tuple[str, ...]:
    """The stages whose results are measured, and that of the personas."""
    measured = run.section("benchmark", BenchmarkSettings).models
    return ("personas", *(name for name in MODELS[1:] if name in measured))


def _work(run: Run) -> Values:
    """Play every model's dialogues. Users and judge are those of `config.roles`, whatever model is under test."""
    settings = run.section("benchmark", BenchmarkSettings)
    personas = read_personas(run.directory("personas") / HELD_OUT)
    counts: _Counts = {"cases": len(personas), "turns": settings.turns, "average": {}, "given_up": {}}
    for number, name in enumerate(settings.models):
        directory = run.directory("benchmark") / name
        if not (directory / METRICS).exists():
            played = number * len(personas)

            def report(done: int, total: int, name: str = name, played: int = played) -> None:
                run.progress.update(played + done, total * len(settings.models), f"dialogues, model {name}")

            _play(run, name, personas, directory, report)
        counts["average"][name] = summarise(personas, settings.resamples, run.seed, directory).average
        if given_up := Counter(each.reason for each in read_given_up(directory)):
            counts["given_up"][name] = dict(given_up.most_common())
            run.progress.line(
                f"benchmark: {given_up.total()} of {len(personas)} cases of the model {name} were given up and count "
                f"as unscored: {told(given_up)}"
            )
    return counts


def _play(
    run: Run, name: str, personas: Sequence[Persona], directory: epath.Path, report: Callable[[int, int], None]
) -> None:
    """Play the dialogues of one model."""
    around = [role for role in ("user", "judge") if role in model_roles(run)]
    with ExitStack() as opened:
        # Only the base model plays roles too, whose answers are stored.
        identity = call_identity(run) if name == "base" else ""
        tested = opened.enter_context(stage_client(run, name, identity))
        # The engine with the base model can play the others as well; no second one is started for them.
        own = tested if name == "base" else None
        clients = opened.enter_context(role_clients(run, around, own))
        store = opened.enter_context(Store(Path(directory))) if around else None
        asyncio.run(_dialogues(run, personas, tested, clients, store, directory, report))


async def _dialogues(
    run: Run,
    personas: Sequence[Persona],
    tested: ChatClient,
    clients: Mapping[str, ChatClient],
    store: Store | None,
    directory: epath.Path,
    report: Callable[[int, int], None],
) -> None:
    async with assemble(run, clients, store) as cast, AsyncExitStack() as opened:
        if tested not in cast.clients:
            await opened.enter_async_context(tested)
        for warning in cast.warnings:
            run.progress.line(f"benchmark: {warning}")
        user, judge = (player_of(run, cast, role, f"benchmark {role}") for role in ("user", "judge"))
        benchmark = Benchmark(personas, user, judge, run.section("benchmark", BenchmarkSettings), run.seed)
        await benchmark.run(tested, directory, report)


BENCHMARK = Stage(
    "benchmark",
    _needed_stages,
    ("model", "template", "serve", "decode", "roles", "benchmark", "seed"),
    _work,
    model_inputs,
    check=_check,
    assist=assist,
    unread=frozenset({"roles.author", "roles.inducer", "roles.teacher", "roles.responder", "roles.judge.trials"}),
)
