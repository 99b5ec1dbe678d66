"""From rows to per-reply log-probabilities: the forward pass shared by training, the reference pass, `aloe score` and
the benchmarks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from aloe_jax.errors import InputError
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import LayerValues, Options
from aloe_jax.ops.attention import AUTO, BLOCK_SIZES, IMPLEMENTATIONS, chosen, tree_attention
from aloe_jax.ops.log_probs import CHUNK, TargetScores, target_log_probs
from aloe_jax.ops.precision import in_precision_of
from aloe_jax.parallel.mesh import ROWS
from aloe_jax.parallel.sharding import constraint
from aloe_jax.settings import rule_of, setting
from aloe_jax.train.objectives import Pairs, Replies, Targets
from aloe_jax.tree.row import TreeRow

FULL = "full"
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Compute:
    """`config.compute`: how the forward pass is computed. Raises InputError for a value that is unknown."""

    dtype: str = setting(
        "float32",
        "type of the activations, float32 or bfloat16; parameters and sums stay float32",
        choices=tuple(DTYPES),
    )
    attention: str = setting(
        AUTO,
        "auto (pallas on TPUs, blocked elsewhere), pallas, blocked, or dense, which is slow and plain",
        choices=(AUTO, *IMPLEMENTATIONS),
        decides=False,
    )
    remat: str = setting(
        FULL,
        "what the backward pass recomputes instead of storing, from least memory to least time: full (whole layers), "
        "attention (all but attention), dots (all but matrix products and attention), none; offload keeps in the "
        "host's memory; auto: full, or with config.tuning=auto the preset for chip and model (docs/tuning.md)",
        choices=(AUTO, *decoder.REMAT),
        decides=False,
    )
    chunk: int = setting(
        CHUNK,
        "target tokens that go through the output head at a time",
        minimum=1,
        decides=False,
        expected=f"at least 1; {CHUNK} is usual",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            rule_of(field).check(getattr(self, field.name), f"config.compute.{field.name}")

    @property
    def kept(self) -> str:
        """The entry of `decoder.REMAT`: an `auto` for which nothing was chosen is full."""
        return FULL if self.remat == AUTO else self.remat


def check_attention(tokens: int, attention: str, mesh: Mesh) -> None:
    """Raise InputError if a row of that many tokens cannot be divided into attention blocks, or if the implementation
    does not run on the mesh's devices."""
    attention = chosen(attention, mesh)
    if attention in BLOCK_SIZES:
        try:
            BLOCK_SIZES[attention](tokens)
        except ValueError as error:
            raise InputError(f"config.dataset.row.tokens: {error}") from None
    if attention == "pallas" and (platform := mesh.devices.flat[0].platform) != "tpu":
        raise InputError(f"config.compute.attention: pallas runs on TPUs and not on {platform}; set it to auto")


def reply_log_probs(
    params: decoder.Params,
    model: ModelConfig,
    row: TreeRow,
    compute: Compute,
    mesh: Mesh | None = None,
    dropout: Array | None = None,
    entropy: bool = False,
) -> TargetScores:
    """Log-probability of every target of a batch of rows [B, ...], and on request the entropy of its prediction.
    `dropout` is the random key of the adapters' dropout; None drops nothing."""

    def attend(layer: LayerValues, query: Array, key: Array, value: Array, carry: None) -> tuple[Array, None]:
        out = tree_attention(
            query,
            key,
            value,
            row.subtree_end,
            row.positions,
            layer.window,
            layer.soft_cap,
            scale=model.scale,
            implementation=compute.attention,
            mesh=mesh,
        )
        return out, carry

    residual = constraint(mesh, PartitionSpec(ROWS))
    options = Options(DTYPES[compute.dtype], compute.kept, residual, dropout)
    hidden, _ = decoder.hidden_states(params, model, row.tokens, row.positions, attend, options=options)
    head = decoder.head_weight(params, model)
    return _sharded_log_probs(hidden, head, row, compute, model, mesh, entropy)


def _sharded_log_probs(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "D V"],
    row: TreeRow,
    compute: Compute,
    model: ModelConfig,
    mesh: Mesh | None,
    entropy: bool,
) -> TargetScores:
    """Log-probabilities of the targets, each chip looping over the chunks of its own rows.

    The head weight, sharded over the tensor axis alone, is gathered once before the loop; its gradient is summed over
    the loop on each chip and reduced over chips once, after it. The partitioner would put that reduction inside the
    loop. Both happen once per micro-batch: a head gathered for several would stay in memory while the layers are
    computed, when memory is at its peak.
    """
    score = functools.partial(target_log_probs, chunk=compute.chunk, soft_cap=model.final_soft_cap, entropy=entropy)
    if mesh is None or mesh.size == 1:
        return score(hidden, head, row.source, row.target)
    head = constraint(mesh, PartitionSpec(None, "tensor"))(head)
    rows, whole = PartitionSpec(ROWS), PartitionSpec()
    return jax.shard_map(
        score,
        mesh=mesh,
        in_specs=(rows, whole, rows, rows),
        out_specs=rows,
        axis_names=set(ROWS),
        check_vma=False,
    )(hidden, head, row.source, row.target)


def gather_replies(scores: TargetScores, row: TreeRow) -> tuple[Replies, Pairs]:
    """Replies and pairs of a batch of rows, with the targets' scores summed per reply. Padding targets point to reply
    R, which is out of range and dropped."""
    count = row.length.shape[-1]

    def total(values: Float[Array, M], reply: Array) -> Float[Array, R]:
        return jax.ops.segment_sum(values, reply, num_segments=count)

    by_reply = jax.vmap(total)
    replies = Replies(
        log_prob=by_reply(scores.log_prob, row.reply),
        weighted_log_prob=by_reply(scores.log_prob * row.weight, row.reply),
        weight=by_reply(row.weight, row.reply),
        reference=row.reference,
        length=row.length,
        turn=row.turn,
        group=row.group,
        label=row.label,
        value=row.value,
        advantage=row.advantage,
        entropy=None if scores.entropy is None else by_reply(scores.entropy, row.reply),
        targets=Targets(
            scores.log_prob, row.old_log_prob, row.reference_log_prob, row.hinted_log_prob, jnp.asarray(row.reply)
        ),
    )
    return replies, Pairs(row.pairs, row.pair_weight, row.pair_margin)


@functools.lru_cache(maxsize=8)  # a caller that scores again compiles nothing
def make_score(
    model: ModelConfig, compute: Compute, mesh: Mesh | None = None, by_token: bool = False
) -> Callable[[decoder.Params, TreeRow], Float[Array, "B S"]]:
    """A jitted function (params, rows [B, ...]) -> log-probability of every reply [B, R], or `by_token` of every target
    [B, M], 0 for padding."""
    forward = dataclasses.replace(compute, remat="none")

    @jax.jit
    @in_precision_of(DTYPES[compute.dtype])
    def score(params: decoder.Params, row: TreeRow) -> Float[Array, "B S"]:
        scores = reply_log_probs(params, model, row, forward, mesh)
        if by_token:
            return jnp.where(row.reply < row.length.shape[-1], scores.log_prob, 0.0)
        return gather_replies(scores, row)[0].log_prob

    return score
