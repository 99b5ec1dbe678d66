"""The work of each step: useful operations and trained tokens, without padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from aloe_jax.data.pipeline import Batches
from aloe_jax.data.plan import TARGETS
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel.chips import chip_of
from aloe_jax.tree.row import TreeRow


@dataclass(frozen=True)
class Work:
    """Of each step: tokens without padding (a repeated trunk counts each time), tokens whose prediction enters the
    loss, and useful operations."""

    tokens: list[int]
    trained_tokens: list[int]
    flops: list[float]


def work_of(batches: Batches, model: ModelConfig) -> Work:
    """The work of every step of the plan.

    Useful operations are those of the matrix products that the result needs: tokens without padding through the layers,
    unmasked query-key pairs, one state per target through the output head. A backward pass counts twice the forward
    pass, or once if only adapters are trained, whose own products are left out. Recomputation is not counted.
    """
    passes, source = 2 if model.lora else 3, batches.source
    read = (source[number] for number in range(len(source)))  # one at a time, as there may be many
    flops = np.array([passes * _forward(fragment, model) for fragment in read])
    members = [[number for row in step for number in row] for step in batches.plan.steps]
    return Work(
        [batches.tokens(step) for step in range(len(batches))],
        [int(source.sizes[step, TARGETS].sum()) for step in members],
        [float(flops[step].sum()) for step in members],
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
