"""`config.benchmark`: what is measured, over how many turns."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting

MODELS = ("base", "sft", "preference")

MOST_RESAMPLES = 1_000_000


@dataclass(frozen=True)
class BenchmarkSettings:
    """The ALOE benchmark."""

    models: tuple[str, ...] = setting(
        MODELS, "what is measured: the start model and the results of the trainings", choices=MODELS
    )
    turns: int = setting(10, "user turns of a dialogue", minimum=1)
    temperature: float = setting(0.7, "of the model under test")
    top_p: float = setting(0.9, "of the model under test")
    max_tokens: int = setting(128, "longest reply", minimum=1)
    concurrency: int = setting(64, "dialogues at the same time", minimum=1, decides=False)
    resamples: int = setting(2000, "of the two-way bootstrap", minimum=1, maximum=MOST_RESAMPLES)
