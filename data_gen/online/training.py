"""The training of the stage `online`: rounds as the batches of the same loop that every training runs in."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from aloe_jax.data.settings import DatasetSettings
from aloe_jax.decode.engine import Engine
from aloe_jax.errors import ResumableError
from aloe_jax.parallel import hosts
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import mesh_of, model_config
from aloe_jax.run.stage import Run
from aloe_jax.serve.local import engine_everywhere
from aloe_jax.train.adapters import trained_config
from aloe_jax.train.clock import Clock
from aloe_jax.train.forward import Compute
from aloe_jax.train.loop import Training
from aloe_jax.train.metrics_log import METRICS, Record
from aloe_jax.train.names import ONLINE
from aloe_jax.train.objectives import objective_of
from aloe_jax.train.run_training import run_loop, shown
from aloe_jax.train.settings import LoggingSettings
from aloe_jax.train.sources import load_model
from aloe_jax.train.stop import StopRequest
from aloe_jax.tree.schema import read_personas
from data_gen.online.alarm import Watch
from data_gen.online.hints import hints_of
from data_gen.online.methods import decided
from data_gen.online.needs import check_disk, memory_in_words
from data_gen.online.packed import Packing
from data_gen.online.players import players
from data_gen.online.policy import Policy
from data_gen.online.round_files import SO_FAR
from data_gen.online.round_settings import OnlineSettings
from data_gen.online.rounds import Rounds
from data_gen.run_files import PERSONAS


def train_online(run: Run) -> Values:
    """Run the rounds of `config.online` in `DIR/online`; returns the counts for the manifest."""
    settings, directory, mesh = run.section(ONLINE, OnlineSettings), run.directory(ONLINE), mesh_of(run)
    base, model, dataset = model_config(run), trained_config(run), run.section("dataset", DatasetSettings)
    clock = Clock(lambda part: shown(run, part))
    if shape := decided(settings):
        run.progress.line(f"online: the method {settings.method} decides {shape}")
    with ExitStack() as stack:
        stop = stack.enter_context(StopRequest(mesh))
        with clock.part("start"):
            engine, chat = stack.enter_context(engine_everywhere(run, settings.start))
            if isinstance(engine, Engine):
                run.progress.line(f"online: {check_disk(run)}")
                run.progress.line(f"online: {memory_in_words(run, engine.memory)}")
            engine.unload()  # every batch of a round loads the policy
            playing = stack.enter_context(players(run, settings, Path(directory))) if hosts.is_primary() else None
            reference = load_model(run, settings.reference, mesh)
        rounds = Rounds(
            run,
            settings,
            read_personas(run.directory("personas") / PERSONAS) if hosts.is_primary() else (),
            playing,
            Policy(engine, chat, model, settings.max_tokens, dataset.max_path),
            Packing(chat, dataset.row, dataset.max_path, model, objective_of(settings).chooses),
            base,
            reference,
            stop,
            hints_of(run) if objective_of(settings).given_hints else None,
        )
        training = Training(
            model,
            settings,
            run.section("compute", Compute),
            rounds,
            mesh,
            directory,
            run.seed,
            logging=replace(run.section("logging", LoggingSettings), stall_seconds=0),  # a round may take its time
            commit=run.commit,
        )

        watch = Watch(Path(directory) / METRICS, settings.alarm)

        def report(done: int, total: int, record: Record) -> None:
            learned = f"loss {record['loss']:.4f}" if record["weight"] else "no replies that differ in value"
            rounds = min(total, math.ceil(done * settings.budget / record[SO_FAR])) if settings.budget else total
            run.progress.update(done, rounds, f"rounds, reward {record['reward']:.3f}, {learned}")
            if (why := watch.alarmed(record)) is not None:
                raise ResumableError(f"stopped in round {done} of {total} in '{directory}': {why}")

        done, counts = run_loop(run, training, lambda: load_model(run, settings.start, mesh), report, clock, stop)
    return {"rounds": done, "trees": done * settings.trees, **counts}
