"""The optimiser and its learning rate, from their settings."""

from __future__ import annotations

from dataclasses import dataclass

import optax

from aloe_jax.settings import setting


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW (arXiv 1711.05101) after clipping by the global norm. Values out of bounds make a training do nothing, go
    uphill or diverge."""

    learning_rate: float = setting(1e-5, "peak learning rate", above=0)
    schedule: str = setting(
        "linear",
        "learning rate after the warm-up: linear or cosine decay to zero, or constant",
        choices=("constant", "linear", "cosine"),
    )
    warmup: float = setting(
        0.1,
        "share of the steps in which the learning rate rises to its peak",
        minimum=0,
        below=1,
        expected="at least 0 and below 1: it is a share of the steps, so divide a number of steps by theirs",
    )
    clip_norm: float = setting(
        1.0,
        "norm to which larger gradients are scaled down",
        above=0,
        expected="above 0; a large one, such as 1e9, clips nothing",
    )
    b1: float = setting(
        0.9,
        "AdamW: decay rate of the gradient's running mean",
        minimum=0,
        below=1,
        expected="at least 0 and below 1, such as 0.9",
    )
    b2: float = setting(
        0.95,
        "AdamW: decay rate of the squared gradient's running mean",
        minimum=0,
        below=1,
        expected="at least 0 and below 1, such as 0.95",
    )
    weight_decay: float = setting(
        0.0, "AdamW: decoupled weight decay", minimum=0, expected="at least 0; 0 decays nothing"
    )


def learning_rate(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """The learning rate by step: linear warm-up over the share `warmup` of the steps, then the schedule."""
    peak, warmup = settings.learning_rate, max(0, round(settings.warmup * steps))
    rest = max(1, steps - warmup)
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
    }[settings.schedule]
    return optax.join_schedules([optax.linear_schedule(peak / (warmup + 1), peak, warmup), after], [warmup])


def make_optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """The optimiser of a training of `steps` steps."""
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(learning_rate(settings, steps), b1=settings.b1, b2=settings.b2, weight_decay=settings.weight_decay),
    )
