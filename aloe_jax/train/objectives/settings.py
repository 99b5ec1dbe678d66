"""Whether the config section of a training has what its objective reads, checked before any work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aloe_jax.errors import InputError
from aloe_jax.train.objectives.listwise import RANKINGS
from aloe_jax.train.objectives.types import Config, Objective

# key -> (whether a value will do, what is expected)
BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "beta": (lambda value: value > 0, "more than 0"),
    "label_smoothing": (lambda value: 0 <= value < 0.5, "at least 0 and less than 0.5"),
    "gamma": (lambda value: value >= 0, "at least 0"),
    "nll_weight": (lambda value: value >= 0, "at least 0"),
    "ranking": (lambda value: value in RANKINGS, f"one of {', '.join(RANKINGS)}"),
    "margin": (lambda value: value >= 0, "at least 0"),
    "turn_buckets": (lambda value: value >= 0, "at least 0"),
    "turn_weights": (
        lambda value: not value or (all(isinstance(one, int | float) and one >= 0 for one in value) and any(value)),
        "numbers of at least 0, not all 0",
    ),
}
OPTIONS = ("margin", "turn_buckets", "turn_weights")


def check_settings(objective: Objective, config: Config, section: str) -> None:
    """InputError naming the first key of `config.SECTION` that `objective` cannot work with."""
    given = {name: config[name] for name in objective.settings}
    given |= {name: config[name] for name in OPTIONS if name in config}
    for name, value in given.items():
        holds, expected = BOUNDS[name]
        if not holds(value):
            raise InputError(f"config.{section}.{name}: {value} must be {expected}")
    if config.get("margin", 0.0) and not objective.takes_margin:
        raise InputError(
            f"config.{section}.margin: {config['margin']} has no meaning for the objective '{config['objective']}', "
            "which compares no pairs; set it to 0"
        )
