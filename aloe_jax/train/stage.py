"""The stages `sft` and `preference`."""

from __future__ import annotations

from aloe_jax.data.settings import DatasetSettings
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import mesh_of, model_inputs
from aloe_jax.run.stage import Run, Stage
from aloe_jax.train import names
from aloe_jax.train.adapters import trained_config
from aloe_jax.train.forward import Compute, check_attention
from aloe_jax.train.objectives import check_objective
from aloe_jax.train.settings import LoggingSettings, TrainingSettings
from aloe_jax.train.start import check_start, preference_start, start_inputs

# Not the mesh: a run may continue on other devices with the same batches.
COMMON = ("model", "template", "compute", "lora", "dataset", "seed")


def _check(run: Run, name: str) -> None:
    check_objective(run.section(name, TrainingSettings), name)
    run.section("logging", LoggingSettings)
    row, compute = run.section("dataset", DatasetSettings).row, run.section("compute", Compute)
    check_attention(row.tokens, compute.attention, mesh_of(run))
    trained_config(run)


def _check_preference(run: Run) -> None:
    _check(run, names.PREFERENCE)
    check_start(run)


def _train(run: Run, name: str, start: str) -> Values:
    from aloe_jax.train.run_training import run_training  # loads Orbax, Grain and TFDS

    return run_training(run, name, start)


SFT = Stage(
    names.SFT,
    ("dataset",),
    (*COMMON, names.SFT),
    lambda run: _train(run, names.SFT, names.BASE),
    model_inputs,
    ("metrics.jsonl",),
    check=lambda run: _check(run, names.SFT),
    everywhere=True,
)
PREFERENCE = Stage(
    names.PREFERENCE,
    lambda run: ("dataset", names.SFT) if preference_start(run) == names.SFT else ("dataset",),
    (*COMMON, names.PREFERENCE),
    lambda run: _train(run, names.PREFERENCE, preference_start(run)),
    lambda run: model_inputs(run) | start_inputs(run),
    ("metrics.jsonl",),
    check=_check_preference,
    everywhere=True,
)
