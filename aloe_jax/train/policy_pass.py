"""Log-probabilities of the targets of a batch under given parameters: the columns of a row that are not on disk.

At the start of a round they are those of the policy that sampled the replies and of the reference model:

    score = make_policy_pass(model, compute, mesh)
    rows = rows.replace(
        old_log_prob=score(policy, rows, used), reference_log_prob=score(reference, rows, used)
    )

An objective of whole replies reads `reference`, their sum over each reply (`by_reply`).

They are computed as the step computes them, so that the ratio is 1 at the first update; what the sampler said of its
tokens is rounded otherwise. A training on stored trees gets them from its reference pass (`reference.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.parallel.sharding import row_sharding
from aloe_jax.train.forward import Compute, make_score
from aloe_jax.tree.row import TreeRow

PolicyPass = Callable[[decoder.Params, TreeRow, Array | int], Float[Array, "N B M"]]


@functools.lru_cache(maxsize=8)  # as `make_score`
def make_policy_pass(model: ModelConfig, compute: Compute, mesh: Mesh | None = None) -> PolicyPass:
    """A jitted function (params, rows [N, B, ...], used) -> log-probability of every target [N, B, M].

    It is 0 for padding, and in the micro-batches after the first `used`, which are not computed.
    """
    score = make_score(model, compute, mesh, by_token=True)
    place = None if mesh is None else row_sharding(mesh, leading=1)

    @functools.partial(jax.jit, out_shardings=place)
    def run(params: decoder.Params, rows: TreeRow, used: Int[Array, ""]) -> Float[Array, "N B M"]:
        def add(number: Array, found: Array) -> Array:
            return found.at[number].set(score(params, jax.tree.map(lambda leaf: leaf[number], rows)))

        return jax.lax.fori_loop(0, used, add, jnp.zeros(rows.target.shape, jnp.float32))

    return run


@jax.jit
def by_reply(values: Float[Array, "N B M"], rows: TreeRow) -> Float[Array, "N B R"]:
    """The sum of the targets' values over each reply."""
    count = rows.length.shape[-1]
    total = functools.partial(jax.ops.segment_sum, num_segments=count)
    return jax.vmap(jax.vmap(total))(values, rows.reply)
