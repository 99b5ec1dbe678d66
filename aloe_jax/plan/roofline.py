"""The shortest time a program can take, from what it computes and moves and what the chip can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import HEAD
from aloe_jax.plan.topology import Topology
from aloe_jax.train.forward import Compute
from aloe_jax.tree.row import Capacity

# Attention products of a backward pass over those of a forward pass: the kernels compute scores again in each of their
# two gradients (7 products to the forward pass's 2), `blocked` in one loop (5), `dense` keeps them (4).
BACKWARD_ATTENTION = {"pallas": 3.5, "blocked": 2.5, "dense": 2.0}


@dataclass(frozen=True)
class Roofline:
    """Seconds per run on one chip, each as if the other two took no time."""

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """Seconds with all three at full speed and overlapped: no program is faster."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def one_by_one(self) -> float:
        """Seconds with nothing overlapped."""
        return self.compute + self.memory + self.interconnect

    @property
    def bound(self) -> str:
        """The part that takes longest."""
        parts = {"compute": self.compute, "memory": self.memory, "interconnect": self.interconnect}
        return max(parts, key=lambda name: parts[name])


def roofline(flops: float, hbm: float, over: Mapping[str, float], topology: Topology) -> Roofline:
    """The times for operations, HBM bytes and bytes received, all of one chip. `over` has the bytes received by the
    places along each axis of the slice that the chips which exchange them take up, as "4x1"."""
    between = sum(
        received / topology.bandwidth_over([int(taken) for taken in extents.split("x")])
        for extents, received in over.items()
    )
    return Roofline(flops / topology.chip.flops, hbm / topology.chip.hbm_bandwidth, between)


def step_flops(model: ModelConfig, compute: Compute, row: Capacity, attention: str, pairs: float, rows: int) -> float:
    """Operations of the matrix products of a training step over `rows` rows of capacity `row`, each with `pairs`
    computed query-key pairs; padding is computed like the rest.

    A backward pass computes gradients of activations and of weights, the latter only of what is trained. Depending on
    `compute.remat` it computes the layers again, except for the last map of each, whose result nothing needs unless a
    norm follows; the attention where its result was not kept, which `dense` has no name for; and always the output
    head, chunk by chunk.
    """
    tokens, remat = row.tokens, compute.kept
    layers, again = model.matmul_flops(tokens, 0, 0), 0.0
    if remat in ("full", "offload", "attention"):
        again = layers - (0 if model.post_norms else 2 * model.layers * tokens * model.mlp_dim * model.dim)
    attention_again = remat == "full" or (attention == "dense" and remat != "none")
    trained = model.lora is None
    head_trained = model.lora is None or HEAD in model.lora.maps
    chunk = min(compute.chunk, row.targets)
    targets = -(-row.targets // chunk) * chunk
    head = model.matmul_flops(0, 0, targets) * (3 + head_trained)
    products = model.matmul_flops(0, pairs, 0) * (1 + attention_again + BACKWARD_ATTENTION[attention])
    return rows * (layers * (2 + trained) + again + head + products)
