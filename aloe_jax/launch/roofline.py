"""How long a program takes at least, from what it computes and moves and what the chip can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aloe_jax.launch.topology import Topology
from aloe_jax.models.config import ModelConfig

# Forward passes' worth of attention products in a backward pass: the kernels compute scores again in each of their two
# gradients (7 products to the forward pass's 2), `blocked` in one loop (5), `dense` keeps them (4).
BACKWARD_ATTENTION = {"pallas": 3.5, "blocked": 2.5, "dense": 2.0}


@dataclass(frozen=True)
class Roofline:
    """Seconds of one run on one chip if only that part took time."""

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """With all three at full speed and side by side: no program is faster."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def one_by_one(self) -> float:
        """With nothing side by side."""
        return self.compute + self.memory + self.interconnect

    @property
    def bound(self) -> str:
        """What takes longest."""
        parts = {"compute": self.compute, "memory": self.memory, "interconnect": self.interconnect}
        return max(parts, key=lambda name: parts[name])


def roofline(flops: float, hbm: float, received: Mapping[str, float], topology: Topology) -> Roofline:
    """From operations, HBM bytes and bytes received, all of one chip."""
    moved = sum(received.values())
    between = moved / topology.bandwidth if moved else 0.0
    return Roofline(flops / topology.chip.flops, hbm / topology.chip.hbm_bandwidth, between)


def step_flops(model: ModelConfig, config: Mapping[str, Any], attention: str, pairs: float, rows: int) -> float:
    """Operations of matrix products in a training step over `rows` rows of which each has `pairs` computed query-key
    pairs; padding is computed like the rest.

    A backward pass computes gradients of activations and of weights, the latter only of what is trained. Where
    `compute.remat` says so it computes the layers again, and always the output head, chunk by chunk.
    """
    compute, row = config["compute"], config["dataset"]["row"]
    layers_again = 1 if compute["remat"] in ("full", "attention") else 0
    attention_again = 1 if compute["remat"] == "full" else 0
    backward = 1 if model.lora else 2
    chunk = min(compute["chunk"], row["targets"])
    targets = -(-row["targets"] // chunk) * chunk
    layers = model.matmul_flops(row["tokens"], 0, 0) * (1 + layers_again + backward)
    head = model.matmul_flops(0, 0, targets) * (2 + backward)
    products = model.matmul_flops(0, pairs, 0) * (1 + attention_again + BACKWARD_ATTENTION[attention])
    return rows * (layers + head + products)
