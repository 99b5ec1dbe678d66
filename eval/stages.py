"""The stages `benchmark`, `export` and `report`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aloe_jax.errors import InputError
from aloe_jax.hub.card import CARD_FILE
from aloe_jax.hub.tensors import as_dtype
from aloe_jax.models.decoder import parameter_count
from aloe_jax.run.stage import Run, Stage
from aloe_jax.serve.local import local_client
from aloe_jax.train.export import export_source
from aloe_jax.train.stages import chat_format, load_stage_params, model_config, model_inputs, own_mesh
from aloe_jax.tree.schema import read_personas
from data_gen.grow import stable_seed
from data_gen.stages import HELD_OUT
from data_gen.world.judge import ScriptedJudge
from data_gen.world.user import ScriptedUser
from eval.benchmark import METRICS, Benchmark
from eval.report import write_report

MODELS = ("base", "sft", "preference")


def _check_benchmark(run: Run) -> None:
    run.at_least("benchmark", turns=1, concurrency=1, max_tokens=1, resamples=1)
    run.at_least("serve", slots=1, context=1)
    names = run.section("benchmark")["models"]
    for name in names:
        if name not in MODELS:
            raise InputError(f"config.benchmark.models: '{name}' is unknown; choose from {', '.join(MODELS)}")
    if not names:
        raise InputError(f"config.benchmark.models is empty; choose from {', '.join(MODELS)}")


def _benchmark(run: Run) -> dict[str, Any]:
    section, seed = run.section("benchmark"), run.config["seed"]
    personas = read_personas(run.directory("personas") / HELD_OUT)
    user = ScriptedUser(seed=stable_seed(seed, "benchmark user"))
    benchmark = Benchmark(personas, user, ScriptedJudge(), section, seed)
    mesh, model, chat = own_mesh(run), model_config(run), chat_format(run)
    counts: dict[str, Any] = {"cases": len(personas), "turns": section["turns"], "average": {}}
    for number, name in enumerate(section["models"]):
        directory = run.directory("benchmark") / name
        if not (directory / METRICS).exists():
            played = number * len(personas)

            def report(done: int, total: int, name: str = name, played: int = played) -> None:
                run.progress.update(played + done, total * len(section["models"]), f"dialogues, model {name}")

            params = load_stage_params(run, name, mesh)
            with local_client(model, params, chat, name, run.section("serve"), mesh) as client:
                asyncio.run(benchmark.run(client, directory, report))
            del params
        counts["average"][name] = benchmark.summarise(directory)["average"]
    return counts


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


STAGES = (
    Stage(
        "benchmark",
        ("personas", "sft", "preference"),
        ("model", "template", "serve", "benchmark", "seed"),
        _benchmark,
        model_inputs,
        check=_check_benchmark,
    ),
    Stage("export", ("preference",), ("model", "lora", "export"), _export, model_inputs, (CARD_FILE,), _check_export),
    Stage("report", ("benchmark", "export"), (), _report, outputs=("index.html",)),
)
