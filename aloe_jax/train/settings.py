"""`config.sft`, `config.preference` and `config.logging`: the settings of trainings."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting
from aloe_jax.train.names import PREFERENCE, SFT
from aloe_jax.train.objectives.settings import ObjectiveSettings
from aloe_jax.train.optimizer import OptimizerSettings


@dataclass(frozen=True)
class LoopSettings(ObjectiveSettings, OptimizerSettings):
    """Any training: its objective, its optimiser, and what is saved meanwhile."""

    rows: int = setting(1, "rows per micro-batch, rounded up to the mesh's row shards", minimum=1, decides=False)
    checkpoint_every: int = setting(
        50, "steps between checkpoints; a signal saves one as well", minimum=1, decides=False
    )
    checkpoint_minutes: float = setting(
        10.0,
        "minutes after which a checkpoint is saved between those, too; 0: by steps alone",
        minimum=0,
        decides=False,
    )
    async_checkpoint: bool = setting(
        True,
        "write checkpoints while training continues, from a copy of the state in host memory",
        decides=False,
        was="save_beside",
    )
    keep: int = setting(1, "newest checkpoints to keep", minimum=1, decides=False)
    keep_every: int = setting(0, "also keep the checkpoint of every so many steps; 0: none", minimum=0, decides=False)


@dataclass(frozen=True)
class TrainingSettings(LoopSettings):
    """A training on the data set: its batches, and what is measured meanwhile."""

    objective: str = setting("sft", "the loss: one of docs/objectives.md")
    epochs: int = setting(1, "passes over the conversations", minimum=1)
    batch: int = setting(
        48,
        "pairs per step; of sft, listwise and tree_regression conversations, of apo_zero_unpaired, policy_gradient and "
        "distil the replies that they train on",
        minimum=1,
    )
    held_out: float = setting(
        0.02,
        "share of the conversations that are measured instead of trained on",
        minimum=0,
        below=1,
        expected="at least 0 and below 1, to leave something",
    )
    measure_every: int = setting(
        50,
        "steps between measurements on held-out conversations; the last step is always measured",
        minimum=1,
        decides=False,
    )


@dataclass(frozen=True)
class SftSettings(TrainingSettings):
    """Supervised fine-tuning, which may be left out."""

    epochs: int = setting(
        1, "passes over the conversations; 0: no SFT, and preference training starts from base", minimum=0
    )


@dataclass(frozen=True)
class PreferenceSettings(TrainingSettings):
    """A training on preferences, and the model that it starts from and refers to."""

    objective: str = setting("dpo", "the loss: one of docs/objectives.md")
    start: str = setting(
        SFT,
        "sft, base, the folder of a training of another run, or any model of the same shape",
        holds=lambda start: start not in ("", PREFERENCE),
        expected="sft, base or a model",
    )


@dataclass(frozen=True)
class LoggingSettings:
    """What is written besides metrics.jsonl. No stage's result depends on it."""

    tensorboard: bool = setting(False, "also write the metrics to DIR/<stage>/tensorboard; needs aloe_jax[tensorboard]")
    wandb: str = setting(
        "", "project of Weights & Biases to log the metrics to as well; needs aloe_jax[wandb]; empty: none"
    )
    trace_from: int = setting(0, "first step of a profiler trace, written to DIR/<stage>/trace; 0: no trace", minimum=0)
    trace_steps: int = setting(3, "steps that the trace covers", minimum=1)
    stall_seconds: float = setting(
        600.0,
        "seconds in which no step ends, and at least 20 times the median step, after which the stacks of all threads "
        "are written and the process that is behind is named; 0: never",
        minimum=0,
    )
