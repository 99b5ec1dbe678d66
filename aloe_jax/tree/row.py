"""`TreeRow`: conversation trees laid out depth-first in one row of tokens, every token computed once.

Query i attends to key j iff `j <= i < subtree_end[j]`. That one vector is the causal mask, the tree mask and the border
between packed trees (the causal column form of FlashMask, arXiv 2410.01359). What is trained on is listed explicitly as
(source, target) positions and never inferred from token ids.

`COLUMNS` is the one table of a row's columns. New fragments, packing, padding and the features of the dataset on disk
derive from it; a new column takes a line there, a field of `TreeRow`, and its values in `fragments.py`. A dataset that
was written before there was a column is read with padding in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int32

from aloe_jax.errors import InputError
from aloe_jax.settings import setting

Array: TypeAlias = jax.Array | np.ndarray


@dataclass(frozen=True)
class Capacity:
    """The size of one row: tokens T, predicted tokens M, replies R, preference pairs P.

    Raises InputError if a single reply has no room.
    """

    tokens: int = setting(8192, "tokens, padding included", minimum=1)
    targets: int = setting(6144, "tokens that are predicted", minimum=1)
    replies: int = setting(256, "assistant messages that are targets", minimum=1)
    pairs: int = setting(128, "preference pairs", minimum=0)

    def __post_init__(self) -> None:
        for name, minimum in (("tokens", 1), ("targets", 1), ("replies", 1), ("pairs", 0)):
            if getattr(self, name) < minimum:
                raise InputError(f"capacity.{name} is {getattr(self, name)}; expected at least {minimum}")

    def holds(self, need: Sequence[int]) -> bool:
        """Whether (tokens, targets, replies, pairs) fit, all four."""
        return all(count <= room for count, room in zip(need, dataclasses.astuple(self), strict=True))


@dataclass(frozen=True)
class Column:
    """How one column of a row is stored.

    Attributes:
        axis: the axis that it runs along, by its name in `Capacity`.
        dtype: its type.
        padding: what fills a row behind the last fragment: one value, or a function of the row's capacity.
        index_of: what its values are indices of, None if they are no indices. Packing shifts indices by what the
            fragments before hold of it.
        inner: sizes of the axes after `axis`.
        stored: whether the dataset on disk holds it. A column that it does not hold is padding until it is filled in.
    """

    axis: Literal["tokens", "targets", "replies", "pairs"]
    dtype: type[np.int32] | type[np.float32] = np.int32
    padding: float | Callable[[Capacity], int | np.ndarray] = 0
    index_of: Literal["tokens", "replies", "groups"] | None = None
    inner: tuple[int, ...] = ()
    stored: bool = True

    def array(self, values: Sequence[object] | np.ndarray) -> np.ndarray:
        """The values in the column's type and shape; an empty list has its inner axes too."""
        return np.asarray(values, self.dtype).reshape(-1, *self.inner)

    def empty(self, capacity: Capacity) -> np.ndarray:
        """The column of a row without fragments: padding alone."""
        value = self.padding(capacity) if callable(self.padding) else self.padding
        return np.full((getattr(capacity, self.axis), *self.inner), value, self.dtype)


def _own_end(capacity: Capacity) -> np.ndarray:
    """A token of padding attends to itself and to nothing else."""
    return np.arange(1, capacity.tokens + 1)


def _out_of_range(capacity: Capacity) -> int:
    """A reply that the row does not have, so that a segment sum drops its targets."""
    return capacity.replies


COLUMNS: Mapping[str, Column] = {
    "tokens": Column("tokens"),
    "positions": Column("tokens"),
    "subtree_end": Column("tokens", padding=_own_end, index_of="tokens"),
    "source": Column("targets", index_of="tokens"),
    "target": Column("targets"),
    "reply": Column("targets", padding=_out_of_range, index_of="replies"),
    "weight": Column("targets", np.float32),
    "old_log_prob": Column("targets", np.float32, stored=False),
    "reference_log_prob": Column("targets", np.float32, stored=False),
    "hinted_log_prob": Column("targets", np.float32, padding=np.nan, stored=False),
    "conversation": Column("replies", padding=-1),
    "node": Column("replies", padding=-1),
    "length": Column("replies"),
    "turn": Column("replies"),
    "group": Column("replies", index_of="groups"),
    "label": Column("replies", np.float32),
    "value": Column("replies", np.float32, padding=np.nan),
    "advantage": Column("replies", np.float32, padding=np.nan),
    "reference": Column("replies", np.float32),
    "pairs": Column("pairs", index_of="replies", inner=(2,)),
    "pair_weight": Column("pairs", np.float32),
    "pair_margin": Column("pairs", np.float32),
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class TreeRow:
    """One row, or with leading axes a batch of rows. A *fragment* is a row of exact sizes without padding.

    `COLUMNS` says what each column is padded with.

    Attributes:
        tokens: token ids, depth-first.
        positions: distance from the root on the token's own path, for rotary embeddings.
        subtree_end: row index where the token's subtree ends, exclusive.
        source: row index of the state that predicts the target; for a reply's first token the last of its parent piece.
        target: token id that is predicted.
        reply: index in the row of the reply that the target belongs to, whatever its weight.
        weight: weight in supervised fine-tuning.
        old_log_prob: log-probability of the target under the policy that sampled it, 0 until it is filled in.
        reference_log_prob: the same under the reference model.
        hinted_log_prob: the same under the policy that sampled it, given a hint beside the path; NaN without one.
        conversation: index of the conversation that the reply belongs to.
        node: index of the reply's node in that conversation.
        length: number of target tokens.
        turn: assistant turn from 1; 0 for the answer of a probe.
        group: common to sibling replies, unique inside a row.
        label: +1 labelled good, -1 labelled bad; without a label of its own +1 only chosen, -1 only rejected, 0 neither
            or both.
        value: backed-up value of the node; NaN where there is none and where it is flagged `no_loss`.
        advantage: how much better the reply is than its siblings; NaN as for `value`.
        reference: log-probability of the reply under the reference model, 0 until it is filled in.
        pairs: indices in the row of (chosen, rejected).
        pair_weight: weight of the pair.
        pair_margin: 2p - 1, p the judges' probability that the chosen reply is preferred, in (0, 1].
    """

    tokens: Int32[Array, "*B T"]
    positions: Int32[Array, "*B T"]
    subtree_end: Int32[Array, "*B T"]
    source: Int32[Array, "*B M"]
    target: Int32[Array, "*B M"]
    reply: Int32[Array, "*B M"]
    weight: Float32[Array, "*B M"]
    old_log_prob: Float32[Array, "*B M"]
    reference_log_prob: Float32[Array, "*B M"]
    hinted_log_prob: Float32[Array, "*B M"]
    conversation: Int32[Array, "*B R"]
    node: Int32[Array, "*B R"]
    length: Int32[Array, "*B R"]
    turn: Int32[Array, "*B R"]
    group: Int32[Array, "*B R"]
    label: Float32[Array, "*B R"]
    value: Float32[Array, "*B R"]
    advantage: Float32[Array, "*B R"]
    reference: Float32[Array, "*B R"]
    pairs: Int32[Array, "*B P 2"]
    pair_weight: Float32[Array, "*B P"]
    pair_margin: Float32[Array, "*B P"]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The (tokens, targets, replies, pairs) that the arrays have room for: what a fragment needs."""
        return (self.tokens.shape[-1], self.target.shape[-1], self.length.shape[-1], self.pair_weight.shape[-1])

    def replace(self, **arrays: Any) -> TreeRow:
        """A copy with some arrays replaced."""
        return dataclasses.replace(self, **arrays)


def make_row(columns: Mapping[str, Sequence[object] | np.ndarray]) -> TreeRow:
    """A fragment of numpy arrays in the right types, from the values of its columns; one that is not given is
    padding."""
    given = {name: column.array(columns[name]) for name, column in COLUMNS.items() if name in columns}
    sizes = {COLUMNS[name].axis: len(values) for name, values in given.items()}
    padding = {
        name: column.array([column.padding] * sizes[column.axis])
        for name, column in COLUMNS.items()
        if name not in given
    }
    return TreeRow(**given, **padding)


def allowed(
    positions: Int32[Array, "*B T"], subtree_end: Int32[Array, "*B T"], window: int | None = None
) -> Bool[Array, "*B T T"]:
    """The dense attention mask: entry [i, j] says whether query i attends to key j.

    With `window`, keys at a distance of `window` or more on the path are left out. It is quadratic in T, for tests.
    """
    index = np.arange(positions.shape[-1], dtype=np.int32)
    query, key = index[:, None], index[None, :]
    mask = (key <= query) & (query < subtree_end[..., None, :])
    if window is not None:
        mask = mask & (positions[..., :, None] - positions[..., None, :] < window)
    return mask
