"""The stages `sft` and `preference`."""

from __future__ import annotations

from aloe_jax.data.settings import DatasetSettings
from aloe_jax.run.manifest import Values
from aloe_jax.run.model import mesh_of, model_inputs
from aloe_jax.run.stage import Run, Stage
from aloe_jax.train.adapters import trained_config
from aloe_jax.train.forward import Compute, check_attention
from aloe_jax.train.objectives import check_objective
from aloe_jax.train.settings import LoggingSettings, TrainingSettings

# Not the mesh: a run may continue on other devices with the same batches.
COMMON = ("model", "template", "compute", "lora", "dataset", "seed")


def _check(run: Run, name: str) -> None:
    check_objective(run.section(name, TrainingSettings), name)
    run.section("logging", LoggingSettings)
    row, compute = run.section("dataset", DatasetSettings).row, run.section("compute", Compute)
    check_attention(row.tokens, compute.attention, mesh_of(run))
    trained_config(run)


def _stage(name: str, needs: tuple[str, ...], start: str) -> Stage:
    def work(run: Run) -> Values:
        from aloe_jax.train.run_training import run_training  # loads Orbax, Grain and TFDS

        return run_training(run, name, start)

    return Stage(
        name,
        needs,
        (*COMMON, name),
        work,
        model_inputs,
        ("metrics.jsonl",),
        check=lambda run: _check(run, name),
        everywhere=True,
    )


SFT = _stage("sft", ("dataset",), "base")
PREFERENCE = _stage("preference", ("dataset", "sft"), "sft")
