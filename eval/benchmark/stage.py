"""The stages `benchmark`, `export` and `report`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.hub.card import CARD_FILE
from aloe_jax.hub.tensors import as_dtype
from aloe_jax.models.decoder import parameter_count
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.local import local_client
from aloe_jax.train.export import export_source
from aloe_jax.train.stages import chat_format, load_stage_params, model_config, model_inputs, own_mesh
from aloe_jax.tree.schema import Persona, read_personas
from data_gen.calls.store import Store
from data_gen.game.stage import FREE, HELD_OUT
from data_gen.players.assemble import assemble, check_roles, judge_of, model_roles, role_clients, user_of
from eval.benchmark.dialogues import METRICS, Benchmark, summarise
from eval.report import write_report

MODELS = ("base", "sft", "preference")


def _check_benchmark(run: Run) -> None:
    run.at_least("benchmark", turns=1, concurrency=1, max_tokens=1, resamples=1)
    run.at_least("serve", slots=1, context=1)
    check_roles(run)
    names = run.section("benchmark")["models"]
    for name in names:
        if name not in MODELS:
            raise InputError(f"config.benchmark.models: '{name}' is unknown; choose from {', '.join(MODELS)}")
    if not names:
        raise InputError(f"config.benchmark.models is empty; choose from {', '.join(MODELS)}")


def _needed_models(run: Run) -> tuple[str, ...]:
    """The stages that make what is measured."""
    return ("personas", *(name for name in MODELS[1:] if name in run.section("benchmark")["models"]))


def _benchmark(run: Run) -> dict[str, Any]:
    """Play every model's dialogues. Users and judge are those of `config.roles`, whatever model is under test."""
    section = run.section("benchmark")
    personas = read_personas(run.directory("personas") / HELD_OUT)
    counts: dict[str, Any] = {"cases": len(personas), "turns": section["turns"], "average": {}}
    for number, name in enumerate(section["models"]):
        directory = run.directory("benchmark") / name
        if not (directory / METRICS).exists():
            played = number * len(personas)

            def report(done: int, total: int, name: str = name, played: int = played) -> None:
                run.progress.update(played + done, total * len(section["models"]), f"dialogues, model {name}")

            _play(run, name, personas, directory, report)
        counts["average"][name] = summarise(personas, section["resamples"], run.config["seed"], directory)["average"]
    return counts


def _play(
    run: Run, name: str, personas: Sequence[Persona], directory: epath.Path, report: Callable[[int, int], None]
) -> None:
    """The dialogues of one model."""
    mesh = own_mesh(run)
    around = [role for role in ("user", "judge") if role in model_roles(run)]
    params = load_stage_params(run, name, mesh)
    with ExitStack() as open_servers:
        tested = open_servers.enter_context(
            local_client(model_config(run), params, chat_format(run), name, run.section("serve"), mesh)
        )
        del params
        # The base model's server can play the others as well; no second one is started for it.
        own = tested if name == "base" else None
        clients = open_servers.enter_context(role_clients(run, around, own))
        store = open_servers.enter_context(Store(Path(directory))) if around else None
        asyncio.run(_dialogues(run, personas, tested, clients, store, directory, report))


async def _dialogues(
    run: Run,
    personas: Sequence[Persona],
    tested: Client,
    clients: Mapping[str, Client],
    store: Store | None,
    directory: epath.Path,
    report: Callable[[int, int], None],
) -> None:
    section, seed = run.section("benchmark"), run.config["seed"]
    async with assemble(run, clients, store) as cast, AsyncExitStack() as opened:
        if tested not in cast.clients:
            await opened.enter_async_context(tested)
        for warning in cast.warnings:
            run.progress.line(f"benchmark: {warning}")
        benchmark = Benchmark(personas, user_of(run, cast, "benchmark user"), judge_of(run, cast), section, seed)
        await benchmark.run(tested, directory, report)


def _check_export(run: Run) -> None:
    run.one_of("export", "model", MODELS[1:])
    as_dtype(run.section("export")["dtype"])
    if run.section("export")["adapter"] and not run.section("lora")["maps"]:
        raise InputError("config.export.adapter: there are no adapters, config.lora.maps is empty; set either")


def _export(run: Run) -> dict[str, Any]:
    section, out = run.section("export"), Path(str(run.directory("export")))
    stage = str(run.directory(section["model"]))
    export_source(stage, out, section["dtype"], overwrite=True, adapter=section["adapter"])
    return {"parameters": parameter_count(model_config(run))}


def _report(run: Run) -> dict[str, Any]:
    path = write_report(run.workdir)
    return {"bytes": Path(str(path)).stat().st_size}


def _reported(run: Run) -> tuple[str, ...]:
    """What the report waits for, of what the config runs at all."""
    stages = run.config["stages"]
    return tuple(name for name in ("benchmark", "export") if not stages or name in stages)


STAGES = (
    Stage(
        "benchmark",
        _needed_models,
        ("model", "template", "serve", "roles", "benchmark", "seed"),
        _benchmark,
        model_inputs,
        check=_check_benchmark,
        free=FREE | {"inducer", "responder", "trials"},
    ),
    Stage("export", ("preference",), ("model", "lora", "export"), _export, model_inputs, (CARD_FILE,), _check_export),
    Stage("report", _reported, (), _report, outputs=("index.html",)),
)
