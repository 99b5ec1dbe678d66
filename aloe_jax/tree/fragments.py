"""From the trie of a conversation to the fragments of rows that carry its replies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from aloe_jax.tree.row import COLUMNS, Capacity, TreeRow, make_row
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.split import Part, split
from aloe_jax.tree.supervision import Supervision, supervision
from aloe_jax.tree.trie import Trie


def fragments(
    tree: Conversation,
    trie: Trie,
    capacity: Capacity,
    conversation_index: int,
    weights: Mapping[str, float] | None = None,
) -> list[TreeRow]:
    """The fragments that carry the replies of one conversation, not yet padded or packed; none if it has no replies.

    Normally there is one. Where a row would overflow, the next fragment repeats the trunk of its replies without
    targets, so that each reply is a target once. Siblings stay together if they fit, else the replies that are
    compared with each other do.

    Pairs whose two replies have the same tokens are left out.

    Args:
        weights: SFT weight by node id; see `supervision`.

    Raises InputError naming conversation, node, need and capacity if replies that must share a row do not fit in one.
    """
    known = supervision(tree, weights)
    known = dataclasses.replace(known, pairs=_different(known.pairs, trie))
    order = depth_first(trie)
    parts = split(tree, trie, capacity, known.pairs, order)
    return [_layout(trie, part, known, conversation_index, order) for part in parts]


def _different(pairs: Mapping[tuple[int, int], float], trie: Trie) -> dict[tuple[int, int], float]:
    """The pairs whose replies have different tokens. A template that trims texts makes some equal: their margin stays 0
    and nothing is learned from them."""
    piece = {span.node: span.piece for span in trie.replies}
    return {pair: margin for pair, margin in pairs.items() if piece[pair[0]] != piece[pair[1]]}


def depth_first(trie: Trie) -> list[int]:
    """Piece indices in the order of a row: each before its children and its whole subtree right behind it."""
    children: dict[int, list[int]] = {}
    for index, piece in enumerate(trie.pieces):
        children.setdefault(piece.parent, []).append(index)
    order, stack = [], children.get(-1, [])[::-1]
    while stack:
        order.append(stack.pop())
        stack += children.get(order[-1], [])[::-1]
    return order


def _layout(trie: Trie, part: Part, known: Supervision, conversation: int, order: Sequence[int]) -> TreeRow:
    """One fragment: pieces of `part` depth-first, its replies in file order."""
    placed = [piece for piece in order if piece in part.pieces]
    columns: dict[str, list[object]] = {name: [] for name, column in COLUMNS.items() if column.stored}
    positions: list[int] = []
    start: dict[int, int] = {}
    end: dict[int, int] = {}
    for piece in placed:
        parent, ids = trie.pieces[piece].parent, trie.pieces[piece].tokens
        depth = positions[end[parent] - 1] + 1 if parent >= 0 else 0
        start[piece], end[piece] = len(positions), len(positions) + len(ids)
        columns["tokens"] += ids
        positions += range(depth, depth + len(ids))
    columns["positions"] += positions
    subtree_end = dict(end)
    for piece in reversed(placed):
        parent = trie.pieces[piece].parent
        subtree_end[parent] = max(subtree_end.get(parent, 0), subtree_end[piece])
    columns["subtree_end"] += [subtree_end[piece] for piece in placed for _ in trie.pieces[piece].tokens]
    replies = sorted(part.replies)
    place = {trie.replies[reply].node: number for number, reply in enumerate(replies)}
    groups: dict[int, int] = {}
    for span in (trie.replies[reply] for reply in replies):
        parent, ids = trie.pieces[span.piece].parent, trie.pieces[span.piece].tokens
        first = start[span.piece]
        columns["source"] += [end[parent] - 1, *range(first, first + len(ids) - 1)]
        columns["target"] += ids
        columns["reply"] += [place[span.node]] * len(ids)
        columns["weight"] += [known.weights[span.node]] * len(ids)
        columns["conversation"].append(conversation)
        columns["node"].append(span.node)
        columns["length"].append(len(ids))
        columns["turn"].append(span.turn)
        columns["group"].append(groups.setdefault(span.group, len(groups)))
        columns["label"].append(known.labels[span.node])
        columns["value"].append(known.values[span.node])
        columns["advantage"].append(known.advantages[span.node])
        columns["reference"].append(0.0)
    compared = {pair: margin for pair, margin in known.pairs.items() if pair[0] in place}
    columns["pairs"] += [(place[chosen], place[rejected]) for chosen, rejected in compared]
    columns["pair_weight"] += [1.0] * len(compared)
    columns["pair_margin"] += compared.values()
    return make_row(columns)
