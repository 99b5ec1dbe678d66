"""`config.sft`, `config.preference` and `config.logging`: the settings of trainings."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting
from aloe_jax.train.objectives.settings import ObjectiveSettings, PairSettings
from aloe_jax.train.optimizer import OptimizerSettings


@dataclass(frozen=True)
class TrainingSettings(ObjectiveSettings, OptimizerSettings):
    """A training: its objective, its optimiser, its batches, and what is saved and measured under way."""

    epochs: int = setting(1, "times that an epoch's conversations are taken", minimum=1)
    batch: int = setting(48, "conversations (sft) or pairs (preference) per step", minimum=1)
    rows: int = setting(1, "rows per micro-batch, rounded up to the mesh's row shards", minimum=1, decides=False)
    checkpoint_every: int = setting(50, "steps between checkpoints; SIGTERM saves one too", minimum=1, decides=False)
    async_checkpoint: bool = setting(
        True,
        "write checkpoints while training goes on, from a copy of the state in the host's memory",
        decides=False,
        was="save_beside",
    )
    keep: int = setting(1, "newest checkpoints that stay", minimum=1, decides=False)
    keep_every: int = setting(0, "checkpoints of every so many steps stay too; 0: no others", minimum=0, decides=False)
    held_out: float = setting(
        0.02,
        "share of the conversations that are not trained on but measured",
        minimum=0,
        below=1,
        expected="at least 0 and below 1, to leave something",
    )
    measure_every: int = setting(
        50, "steps between measurements of what is held out; the last step is measured too", minimum=1, decides=False
    )


@dataclass(frozen=True)
class PreferenceSettings(PairSettings, TrainingSettings):
    """A training that compares replies."""


@dataclass(frozen=True)
class LoggingSettings:
    """What is written beside metrics.jsonl; may change while a run is under way."""

    tensorboard: bool = setting(False, "DIR/<stage>/tensorboard beside metrics.jsonl; needs aloe_jax[tensorboard]")
    trace_from: int = setting(0, "first step of a profiler trace into DIR/<stage>/trace; 0: no trace", minimum=0)
    trace_steps: int = setting(3, "how many steps it covers", minimum=1)
