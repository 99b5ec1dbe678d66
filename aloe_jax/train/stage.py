"""The stages `sft` and `preference`."""

from __future__ import annotations

from collections.abc import Callable

from aloe_jax.data.settings import DatasetSettings
from aloe_jax.run.changes import Places
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import mesh_of, model_inputs, model_places
from aloe_jax.run.stage import Run, Stage
from aloe_jax.train.adapters import trained_config
from aloe_jax.train.forward import Compute, check_attention
from aloe_jax.train.names import BASE, CHAIN, OWN
from aloe_jax.train.objectives import check_objective
from aloe_jax.train.settings import LoggingSettings, LoopSettings, PreferenceSettings, TrainingSettings
from aloe_jax.train.start import check_start, start_inputs
from aloe_jax.train.trackers import check_trackers

# Not the mesh: a run may continue on other devices with the same batches.
COMMON = ("model", "template", "compute", "lora", "dataset", "seed")


def check_training(run: Run, name: str) -> None:
    """Raise InputError for settings with which no training of the stage `name` can run."""
    check_objective(run.section(name, LoopSettings), name)
    check_trackers(run.section("logging", LoggingSettings))
    row, compute = run.section("dataset", DatasetSettings).row, run.section("compute", Compute)
    check_attention(row.tokens, compute.attention, mesh_of(run))
    trained_config(run)


def _stage(name: str, start: Callable[[Run], str]) -> Stage:
    """The training `name`; `start` names the model that it starts from, as `find_model` takes it. Without epochs there
    is none."""

    def work(run: Run) -> Values:
        from aloe_jax.train.run_training import run_training  # loads Orbax, Grain and TFDS

        return run_training(run, name, start(run))

    def check(run: Run) -> None:
        check_training(run, name)
        check_start(run, start(run), f"{name}.start")

    def skips(run: Run) -> str:
        return "" if run.section(name, TrainingSettings).epochs else f"config.{name}.epochs is 0"

    def places(run: Run) -> Places:
        return {**model_places(run), "start": [start(run)] if start(run) not in OWN else []}

    return Stage(
        name,
        lambda run: ("dataset", *(each for each in CHAIN if each == start(run))),
        (*COMMON, name),
        work,
        lambda run: model_inputs(run) | start_inputs(start(run)),
        ("metrics.jsonl",),
        check=check,
        everywhere=True,
        places=places,
        skips=skips,
    )


SFT = _stage("sft", lambda run: BASE)
PREFERENCE = _stage("preference", lambda run: run.section("preference", PreferenceSettings).start)
