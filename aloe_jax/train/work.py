"""The work of each step: useful operations and trained tokens, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from aloe_jax.data.pipeline import Batches
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel.chips import chip_of
from aloe_jax.tree.row import TreeRow


@dataclass(frozen=True)
class Work:
    """Of a step: tokens without padding (a repeated trunk counts each time), tokens whose prediction enters the loss,
    and useful operations."""

    tokens: int
    trained_tokens: int
    flops: float


def works_of(batches: Batches, model: ModelConfig) -> list[Work]:
    """The work of every step of the plan.

    Useful operations are those of the matrix products that the result needs: tokens without padding through the layers,
    unmasked query-key pairs, one state per target through the output head. A backward pass counts twice the forward
    pass, or once if only adapters are trained, whose own products are left out. Recomputation is not counted.
    """
    source = batches.source
    works = [work_of(source[number], model) for number in range(len(source))]  # one at a time, as there may be many
    members = [[number for row in step for number in row] for step in batches.plan.steps]
    return [sum_of([works[number] for number in step]) for step in members]


def work_of(fragment: TreeRow, model: ModelConfig) -> Work:
    """The work of a step on one fragment."""
    passes = 2 if model.lora else 3
    return Work(fragment.tokens.size, fragment.target.size, float(passes * _forward(fragment, model)))


def sum_of(works: Sequence[Work]) -> Work:
    """The work of a step on several fragments."""
    return Work(
        sum(each.tokens for each in works),
        sum(each.trained_tokens for each in works),
        sum(each.flops for each in works),
    )


def _forward(fragment: TreeRow, model: ModelConfig) -> float:
    """Operations of a forward pass. A token attends to itself and its ancestors: position + 1 tokens, at most the
    window."""
    attended = np.asarray(fragment.positions, np.int64) + 1
    windows = [layer.window for layer in model.each_layer()]
    by_window = {
        window: int((attended if window is None else np.minimum(attended, window)).sum()) for window in set(windows)
    }
    pairs = sum(by_window[window] for window in windows) / len(windows)
    return model.matmul_flops(fragment.tokens.size, pairs, fragment.target.size)


def peak_flops(mesh: Mesh) -> float | None:
    """bf16 operations per second of all chips of the mesh; None for chips that are not in the table."""
    chip = chip_of(mesh.devices.flat[0])
    return None if chip is None else chip.flops * mesh.size
