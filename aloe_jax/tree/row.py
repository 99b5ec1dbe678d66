"""`TreeRow`: conversation trees laid out depth-first in one row of tokens, every token computed once.

Query i attends to key j iff `j <= i < subtree_end[j]`. That one vector is the causal mask, the tree mask and the border
between packed trees (the causal column form of FlashMask, arXiv 2410.01359). What is trained on is listed explicitly as
(source, target) positions and never inferred from token ids.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int32

from aloe_jax.errors import InputError
from aloe_jax.settings import setting
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.trie import Trie

Array: TypeAlias = jax.Array | np.ndarray


@dataclass(frozen=True)
class Capacity:
    """How much one row holds: tokens T, predicted tokens M, replies R, preference pairs P. Raises InputError if there
    is no room for a single reply."""

    tokens: int = setting(8192, "tokens, padding included", minimum=1)
    targets: int = setting(6144, "tokens that are predicted", minimum=1)
    replies: int = setting(256, "assistant messages that are targets", minimum=1)
    pairs: int = setting(128, "preference pairs", minimum=0)

    def __post_init__(self) -> None:
        for name, least in (("tokens", 1), ("targets", 1), ("replies", 1), ("pairs", 0)):
            if getattr(self, name) < least:
                raise InputError(f"capacity.{name} is {getattr(self, name)}; expected at least {least}")

    def holds(self, need: Sequence[int]) -> bool:
        """Whether (tokens, targets, replies, pairs) fit, all four."""
        return all(count <= room for count, room in zip(need, dataclasses.astuple(self), strict=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class TreeRow:
    """One row, or with leading axes a batch of rows. A *fragment* is a row of exact sizes without padding.

    Attributes:
        tokens: token ids, depth-first. Padding: 0.
        positions: distance from the root on the token's own path, for rotary embeddings. Padding: 0.
        subtree_end: row index where the token's subtree ends, exclusive. Padding: own index + 1 (sees only itself).
        source: row index of the state that predicts the target; for a reply's first token the last of its parent piece.
        target: token id that is predicted.
        reply: index in the row of the reply the target belongs to, whatever its weight. Padding: R, out of range, so
            that a segment sum drops it.
        weight: weight in supervised fine-tuning. Padding: 0.
        conversation: index of the conversation the reply belongs to. Padding: -1.
        node: index of the reply's node in that conversation. Padding: -1.
        length: number of target tokens. Padding: 0.
        turn: assistant turn from 1.
        group: common to sibling replies, unique inside a row.
        label: +1 only chosen, -1 only rejected, 0 neither or both.
        value: backed-up value of the node; NaN where there is none and where it is flagged `no_loss`. Padding: NaN.
        reference: log-probability of the reply under the reference model, 0 until it is filled in.
        pairs: indices in the row of (chosen, rejected). Padding: (0, 0).
        pair_weight: weight of the pair. Padding: 0.
        pair_margin: 2p - 1, p the judges' probability that the chosen reply is preferred, in (0, 1]. Padding: 0.
    """

    tokens: Int32[Array, "*B T"]
    positions: Int32[Array, "*B T"]
    subtree_end: Int32[Array, "*B T"]
    source: Int32[Array, "*B M"]
    target: Int32[Array, "*B M"]
    reply: Int32[Array, "*B M"]
    weight: Float32[Array, "*B M"]
    conversation: Int32[Array, "*B R"]
    node: Int32[Array, "*B R"]
    length: Int32[Array, "*B R"]
    turn: Int32[Array, "*B R"]
    group: Int32[Array, "*B R"]
    label: Float32[Array, "*B R"]
    value: Float32[Array, "*B R"]
    reference: Float32[Array, "*B R"]
    pairs: Int32[Array, "*B P 2"]
    pair_weight: Float32[Array, "*B P"]
    pair_margin: Float32[Array, "*B P"]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(tokens, targets, replies, pairs) that the arrays have room for; what a fragment needs."""
        return (self.tokens.shape[-1], self.target.shape[-1], self.length.shape[-1], self.pair_weight.shape[-1])

    def replace(self, **fields: Any) -> TreeRow:
        """A row with some arrays replaced."""
        return dataclasses.replace(self, **fields)


FIELDS = tuple(field.name for field in dataclasses.fields(TreeRow))
FLOAT_FIELDS = frozenset({"weight", "label", "value", "reference", "pair_weight", "pair_margin"})


def make_row(columns: Mapping[str, Any]) -> TreeRow:
    """A `TreeRow` of numpy arrays in the right types from plain lists, one for each field."""
    arrays = {name: np.asarray(columns[name], np.float32 if name in FLOAT_FIELDS else np.int32) for name in FIELDS}
    arrays["pairs"] = arrays["pairs"].reshape(-1, 2)  # an empty list has no second axis
    return TreeRow(**arrays)


def allowed(
    positions: Int32[Array, "*B T"], subtree_end: Int32[Array, "*B T"], window: int | None = None
) -> Bool[Array, "*B T T"]:
    """Dense attention mask: entry [i, j] says whether query i sees key j.

    With `window`, keys at a distance of `window` or more on the path are left out. For tests and the dense reference;
    it is quadratic in T.
    """
    index = np.arange(positions.shape[-1], dtype=np.int32)
    query, key = index[:, None], index[None, :]
    mask = (key <= query) & (query < subtree_end[..., None, :])
    if window is not None:
        mask = mask & (positions[..., :, None] - positions[..., None, :] < window)
    return mask


def fragments(
    tree: Conversation,
    trie: Trie,
    capacity: Capacity,
    conversation_index: int,
    weights: Mapping[str, float] | None = None,
) -> list[TreeRow]:
    """The rows, not yet padded or packed, that carry the replies of one conversation; none if it has no replies.

    One fragment normally. Where a row would be full, the next fragment repeats the trunk its replies stand on, without
    targets, so that each reply is a target once. Siblings stay together if they fit, else the replies that are
    compared with each other do.

    Args:
        weights: SFT weight by node id, 0 for nodes not named. By default a reply has weight 1 if the conversation has
            no preferences, else 1 where it is chosen in a pair and rejected in none. A node flagged `no_loss` has
            weight 0 and takes part in no pair, whatever is given.

    Raises InputError naming conversation, node, need and capacity if replies that must share a row do not fit in one.
    """
    training = _training(tree, weights)
    order = _depth_first(trie)
    parts = _split(tree, trie, capacity, training.pairs, order)
    return [_layout(tree, trie, part, training, conversation_index, order) for part in parts]


@dataclass(frozen=True)
class _Training:
    """What the preferences say, by node index: SFT weights, labels, values, and (chosen, rejected) pairs with their
    margin."""

    weights: Sequence[float]
    labels: Sequence[float]
    values: Sequence[float]
    pairs: Mapping[tuple[int, int], float]


def _training(tree: Conversation, weights: Mapping[str, float] | None) -> _Training:
    index = {node.id: position for position, node in enumerate(tree.nodes)}
    muted = {position for position, node in enumerate(tree.nodes) if "no_loss" in node.flags}
    # Several judges may name one pair; it is still one comparison, with their mean margin.
    margins: dict[tuple[int, int], list[float]] = {}
    for preference in tree.preferences:
        if preference.margin > 0:
            margins.setdefault((index[preference.chosen], index[preference.rejected]), []).append(preference.margin)
    pairs = {pair: fmean(found) for pair, found in margins.items()}
    chosen, rejected = ({pair[side] for pair in pairs} - muted for side in (0, 1))
    labels = [float(node in chosen - rejected) - float(node in rejected - chosen) for node in range(len(tree.nodes))]
    if weights is not None:
        unknown = next((name for name in weights if name not in index), None)
        if unknown is not None:
            raise InputError(f"conversation '{tree.id}': weights name unknown node '{unknown}'")
        trained = [weights.get(node.id, 0.0) for node in tree.nodes]
    elif tree.preferences:
        trained = [float(label > 0) for label in labels]
    else:
        trained = [1.0] * len(tree.nodes)
    return _Training(
        weights=[0.0 if node in muted else weight for node, weight in enumerate(trained)],
        labels=labels,
        values=[
            math.nan if position in muted or node.value is None else node.value
            for position, node in enumerate(tree.nodes)
        ],
        pairs={pair: margin for pair, margin in pairs.items() if muted.isdisjoint(pair)},
    )


def _depth_first(trie: Trie) -> list[int]:
    """Piece indices, each before its children and with its whole subtree right behind it."""
    children: dict[int, list[int]] = {}
    for index, piece in enumerate(trie.pieces):
        children.setdefault(piece.parent, []).append(index)
    order, stack = [], children.get(-1, [])[::-1]
    while stack:
        order.append(stack.pop())
        stack += children.get(order[-1], [])[::-1]
    return order


@dataclass
class _Part:
    """Replies for one fragment (indices into `trie.replies`), the pieces they stand on and what both need."""

    trie: Trie
    pairs: Collection[tuple[int, int]]
    replies: list[int] = field(default_factory=list)
    pieces: set[int] = field(default_factory=set)
    need: tuple[int, ...] = (0, 0, 0, 0)

    def add(self, unit: Sequence[int], capacity: Capacity) -> bool:
        """Take the replies of `unit` in if all four capacities allow; says whether it did."""
        spans = [self.trie.replies[reply] for reply in unit]
        new = {piece for span in spans for piece in self.trie.path(span.piece)} - self.pieces
        nodes = {span.node for span in spans}
        more = (
            sum(len(self.trie.pieces[piece].tokens) for piece in new),
            sum(len(self.trie.pieces[span.piece].tokens) for span in spans),
            len(spans),
            sum(chosen in nodes for chosen, _ in self.pairs),
        )
        need = tuple(have + extra for have, extra in zip(self.need, more, strict=True))
        if not capacity.holds(need):
            return False
        self.need = need
        self.replies += unit
        self.pieces |= new
        return True


def _split(
    tree: Conversation, trie: Trie, capacity: Capacity, pairs: Collection[tuple[int, int]], order: Sequence[int]
) -> Iterator[_Part]:
    """Parts of the conversation, each for one fragment, filled in depth-first order so that they share their trunk."""
    rank = {piece: position for position, piece in enumerate(order)}
    groups: dict[int, list[int]] = {}
    for reply, span in enumerate(trie.replies):
        groups.setdefault(span.group, []).append(reply)
    part = _Part(trie, pairs)
    for siblings in sorted(groups.values(), key=lambda replies: rank[trie.replies[replies[0]].piece]):
        whole = _Part(trie, pairs).add(siblings, capacity)
        for unit in [siblings] if whole else _compared(trie, siblings, pairs):
            if part.add(unit, capacity):
                continue
            if part.replies:
                yield part
            part = _Part(trie, pairs)
            if not part.add(unit, capacity):
                raise _too_large(tree, trie, unit, pairs, capacity)
    if part.replies:
        yield part


def _compared(trie: Trie, siblings: Sequence[int], pairs: Collection[tuple[int, int]]) -> list[list[int]]:
    """`siblings` in the connected components that pairs make of them; an uncompared reply is alone."""
    reply_of = {trie.replies[reply].node: reply for reply in siblings}
    component = {reply: [reply] for reply in siblings}
    for chosen, rejected in pairs:
        if chosen in reply_of:
            joined, other = component[reply_of[chosen]], component[reply_of[rejected]]
            if joined is not other:
                joined += other
                component.update(dict.fromkeys(other, joined))
    return [sorted(replies) for replies in {id(replies): replies for replies in component.values()}.values()]


def _too_large(
    tree: Conversation, trie: Trie, unit: Sequence[int], pairs: Collection[tuple[int, int]], capacity: Capacity
) -> InputError:
    alone = _Part(trie, pairs)
    alone.add(unit, Capacity(sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize))
    needs = zip(alone.need, dataclasses.asdict(capacity).items(), strict=True)
    over = [(need, name, room) for need, (name, room) in needs if need > room]
    lacking = ", ".join(f"{need} {name} where a row has {room}" for need, name, room in over)
    node = tree.nodes[trie.replies[unit[0]].node].id
    return InputError(
        f"conversation '{tree.id}' node '{node}' with its path and the replies it is compared with needs {lacking}; "
        f"raise {', '.join(f'config.dataset.row.{name}' for _, name, _ in over)}"
    )


def _layout(
    tree: Conversation,
    trie: Trie,
    part: _Part,
    training: _Training,
    conversation: int,
    order: Sequence[int],
) -> TreeRow:
    """One fragment: pieces of `part` depth-first, its replies in file order."""
    placed = [piece for piece in order if piece in part.pieces]
    tokens: list[int] = []
    positions: list[int] = []
    start: dict[int, int] = {}
    for piece in placed:
        parent = trie.pieces[piece].parent
        depth = positions[start[parent] + len(trie.pieces[parent].tokens) - 1] + 1 if parent >= 0 else 0
        start[piece] = len(tokens)
        tokens += trie.pieces[piece].tokens
        positions += range(depth, depth + len(trie.pieces[piece].tokens))
    end = {piece: start[piece] + len(trie.pieces[piece].tokens) for piece in placed}
    for piece in reversed(placed):
        parent = trie.pieces[piece].parent
        end[parent] = max(end.get(parent, 0), end[piece])
    columns: dict[str, list[Any]] = {name: [] for name in FIELDS}
    columns |= {"tokens": tokens, "positions": positions}
    columns["subtree_end"] = [end[piece] for piece in placed for _ in trie.pieces[piece].tokens]
    place = {trie.replies[reply].node: number for number, reply in enumerate(sorted(part.replies))}
    groups: dict[int, int] = {}
    for reply in sorted(part.replies):
        span = trie.replies[reply]
        parent, ids, first = trie.pieces[span.piece].parent, trie.pieces[span.piece].tokens, start[span.piece]
        columns["source"] += [start[parent] + len(trie.pieces[parent].tokens) - 1, *range(first, first + len(ids) - 1)]
        columns["target"] += ids
        columns["reply"] += [place[span.node]] * len(ids)
        columns["weight"] += [training.weights[span.node]] * len(ids)
        columns["conversation"].append(conversation)
        columns["node"].append(span.node)
        columns["length"].append(len(ids))
        columns["turn"].append(span.turn)
        columns["group"].append(groups.setdefault(span.group, len(groups)))
        columns["label"].append(training.labels[span.node])
        columns["value"].append(training.values[span.node])
        columns["reference"].append(0.0)
    compared = {pair: margin for pair, margin in training.pairs.items() if pair[0] in place}
    columns["pairs"] = [(place[chosen], place[rejected]) for chosen, rejected in compared]
    columns["pair_weight"] = [1.0] * len(compared)
    columns["pair_margin"] = list(compared.values())
    return make_row(columns)
