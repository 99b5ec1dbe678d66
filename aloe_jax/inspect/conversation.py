"""A conversation as a model is trained on it: the pieces of its trie with their tokens, its replies and pairs.

Everything is read from what the stage `dataset` computes: `build_trie`, `fragments` and `supervision`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aloe_jax.errors import InputError
from aloe_jax.inspect.tokens import token_texts
from aloe_jax.tree.fragments import depth_first, fragments
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation, Node
from aloe_jax.tree.supervision import supervision
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import ReplySpan, Trie, build_trie

UNLIMITED = Capacity(sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize)
Verdict = Literal["chosen", "rejected", "both", "none"]
Ids = Literal["text", "stored", "other tokenizer"]


@dataclass(frozen=True)
class Token:
    """A token of a row.

    `text` is what it adds to the text, empty where it ends inside a character; `entry` its notation in the vocabulary;
    `position` its distance from the root; `weight` its weight in supervised fine-tuning, None if it is no target.
    """

    id: int
    text: str
    entry: str
    special: bool
    position: int
    weight: float | None


@dataclass(frozen=True)
class PieceView:
    """A piece of the trie. `parent` is the index of the piece before it, -1 at a root.

    Attributes:
        replies: ids of the nodes whose reply it is; several where siblings are equal.
        rewrites: ids of earlier replies that the template renders with other tokens from here on than when they were
            the last message, so that the path leaves theirs.
        turns_cut: number of turns that are cut from the left of the paths that begin to differ here.
    """

    index: int
    parent: int
    tokens: tuple[Token, ...]
    replies: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    turns_cut: int = 0

    @property
    def text(self) -> str:
        """The text of its tokens."""
        return "".join(token.text for token in self.tokens)

    @property
    def span(self) -> str:
        """Its first and last position as text."""
        first, last = self.tokens[0].position, self.tokens[-1].position
        return f"position {first}" if first == last else f"positions {first}-{last}"

    @property
    def trained(self) -> int:
        """The number of its tokens with a weight in supervised fine-tuning."""
        return sum(bool(token.weight) for token in self.tokens)


@dataclass(frozen=True)
class ReplyView:
    """One assistant message as a target.

    Attributes:
        tokens: number of its tokens; `path_tokens` counts those before it too.
        verdict: its side in the pairs that count; "both" if it is chosen in one and rejected in another.
        ids: where its tokens come from: its text, the stored ids that it was sampled as, or its text because the
            stored ids are those of another tokenizer.
        value: backed-up value of the node, None where training has none.
    """

    node: str
    turn: int
    tokens: int
    path_tokens: int
    weight: float
    verdict: Verdict
    ids: Ids
    turns_cut: int
    value: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class PairView:
    """A pair of replies that preference training compares."""

    chosen: str
    rejected: str
    margin: float


@dataclass(frozen=True)
class ConversationView:
    """A conversation in row order.

    `tree_tokens` are computed where one sequence per reply would take `path_tokens`; `sharing` is their ratio. `rows`
    is the number of rows of the default capacity that it is spread over, 0 with the reason in `too_large` where it does
    not fit.
    """

    id: str
    pieces: tuple[PieceView, ...]
    replies: tuple[ReplyView, ...]
    pairs: tuple[PairView, ...]
    tree_tokens: int
    path_tokens: int
    sharing: float
    turns_cut: int
    trained_tokens: int
    rows: int
    too_large: str = ""

    @property
    def turns(self) -> int:
        """The number of assistant turns of its longest path."""
        return max((reply.turn for reply in self.replies), default=0)


def view_conversation(tree: Conversation, chat: ChatFormat, max_tokens: int | None = None) -> ConversationView:
    """What training makes of `tree`. Raises InputError as `build_trie` does."""
    trie = build_trie(tree, chat, max_tokens)
    parts = fragments(tree, trie, UNLIMITED, 0)
    row = parts[0] if parts else None
    rows, too_large = _rows(tree, trie)
    names = [node.id for node in tree.nodes]
    return ConversationView(
        id=tree.id,
        pieces=tuple(_pieces(tree, trie, chat, row)) if row else (),
        replies=tuple(_replies(tree, trie, chat, row)) if row else (),
        pairs=tuple(
            PairView(names[chosen], names[rejected], margin)
            for (chosen, rejected), margin in supervision(tree).pairs.items()
        ),
        tree_tokens=trie.tree_tokens,
        path_tokens=trie.path_tokens,
        sharing=trie.sharing,
        turns_cut=trie.turns_cut,
        trained_tokens=int(np.count_nonzero(row.weight)) if row else 0,
        rows=rows,
        too_large=too_large,
    )


def _rows(tree: Conversation, trie: Trie) -> tuple[int, str]:
    """The number of default rows that the conversation takes, or 0 with the sentence that refuses it."""
    try:
        return len(fragments(tree, trie, Capacity(), 0)), ""
    except InputError as error:
        return 0, str(error)


def _pieces(tree: Conversation, trie: Trie, chat: ChatFormat, row: TreeRow) -> list[PieceView]:
    order = depth_first(trie)
    lengths = [len(trie.pieces[piece].tokens) for piece in order]
    starts = dict(zip(order, (np.cumsum(lengths) - lengths).tolist(), strict=True))
    weights = _weights(trie, row, starts)
    rewrites, cut = _rewritten(tree, trie), _cut(tree, trie)
    special, tokenizer = chat.tokenizer.special_tokens, chat.tokenizer
    found = []
    for piece in order:
        parent, ids = trie.pieces[piece].parent, trie.pieces[piece].tokens
        before = trie.pieces[parent].tokens if parent >= 0 else ()
        tokens = tuple(
            Token(
                id=token,
                text=text,
                entry=tokenizer.entry(token) or "",
                special=token in special,
                position=int(row.positions[index]),
                weight=weights.get(index),
            )
            for index, (token, text) in enumerate(
                zip(ids, token_texts(tokenizer, ids, before), strict=True), start=starts[piece]
            )
        )
        replies = tuple(tree.nodes[span.node].id for span in trie.replies if span.piece == piece)
        found.append(
            PieceView(piece, parent, tokens, replies, tuple(rewrites.get(piece, ())), max(cut.get(piece, {0})))
        )
    return found


def _weights(trie: Trie, row: TreeRow, starts: dict[int, int]) -> dict[int, float]:
    """The weight of each target of the row by the row index of its token; of equal siblings, the largest one's."""
    piece = {span.node: span.piece for span in trie.replies}
    found: dict[int, float] = {}
    for reply, node in enumerate(row.node.tolist()):
        for index, weight in enumerate(row.weight[row.reply == reply].tolist(), start=starts[piece[node]]):
            found[index] = max(weight, found.get(index, 0.0))
    return found


def _replies(tree: Conversation, trie: Trie, chat: ChatFormat, row: TreeRow) -> list[ReplyView]:
    spans = {span.node: span for span in trie.replies}
    compared = {node for pair in supervision(tree).pairs for node in pair}
    found = []
    for reply, index in enumerate(row.node.tolist()):
        node, span = tree.nodes[index], spans[index]
        label, value = float(row.label[reply]), float(row.value[reply])
        weights = row.weight[row.reply == reply]
        undecided: Verdict = "both" if index in compared else "none"
        verdict: Verdict = "chosen" if label > 0 else "rejected" if label < 0 else undecided
        found.append(
            ReplyView(
                node=node.id,
                turn=int(row.turn[reply]),
                tokens=int(row.length[reply]),
                path_tokens=len(trie.path_ids(span.piece)),
                weight=float(weights.max(initial=0.0)),
                verdict=verdict,
                ids=_ids(node, chat),
                turns_cut=span.turns_cut,
                value=None if np.isnan(value) else value,
                flags=node.flags,
            )
        )
    return found


def _ids(node: Node, chat: ChatFormat) -> Ids:
    if not node.token_ids:
        return "text"
    return "stored" if node.tokenizer == chat.tokenizer.hash else "other tokenizer"


def _earlier(tree: Conversation, trie: Trie) -> list[tuple[ReplySpan, list[ReplySpan]]]:
    """Each reply with those before it on its path, the first one first."""
    spans = {tree.nodes[span.node].id: span for span in trie.replies}
    found = []
    for span in trie.replies:
        path = tree.path_to(tree.nodes[span.node].id)[:-1]
        found.append((span, [spans[node.id] for node in path if node.role == "assistant"]))
    return found


def _leaves(path: Sequence[int], other: Sequence[int]) -> int | None:
    """The first piece of `path` that is not on the path `other`; None if `path` continues `other`."""
    return next((piece for piece, kept in zip(path, other, strict=False) if piece != kept), None)


def _rewritten(tree: Conversation, trie: Trie) -> dict[int, list[str]]:
    """The ids of the replies that are rendered otherwise in history, by the piece where a later path leaves theirs."""
    found: dict[int, list[str]] = {}
    paths = {span.piece: trie.path(span.piece) for span in trie.replies}
    for span, earlier in _earlier(tree, trie):
        for before in earlier:
            # Where turns were cut between the two, the paths differ for that reason.
            same = before.turns_cut == span.turns_cut
            piece = _leaves(paths[span.piece], paths[before.piece]) if same else None
            name = tree.nodes[before.node].id
            if piece is not None and name not in found.setdefault(piece, []):
                found[piece].append(name)
    return found


def _cut(tree: Conversation, trie: Trie) -> dict[int, set[int]]:
    """The numbers of turns that are cut, by the piece where a path leaves those with fewer cut."""
    found: dict[int, set[int]] = {}
    for span, earlier in _earlier(tree, trie):
        whole: Sequence[ReplySpan] = [before for before in earlier if before.turns_cut < span.turns_cut]
        piece = _leaves(trie.path(span.piece), trie.path(whole[-1].piece)) if whole else None
        if piece is not None:
            found.setdefault(piece, set()).add(span.turns_cut)
    return found
