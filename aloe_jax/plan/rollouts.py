"""The input of a round: its trees with synthetic lengths, packed as a round packs them, and what sampling takes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aloe_jax.errors import InputError
from aloe_jax.plan.settings import Rounds
from aloe_jax.plan.workload import MEASURED_ROWS, REPLY_TOKENS, SPREAD, USER_TOKENS
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.pack import best_fit, pack, stack
from aloe_jax.tree.prune import Chooses, pruned
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.trie import Piece, ReplySpan, Trie


@dataclass(frozen=True)
class Sampled:
    """What a round samples: its replies and their tokens, how many are due at once at most, and how often the engine
    runs. Replies that are due together have as many tokens as the longest may have, since nobody goes on before."""

    replies: int
    tokens: int
    at_once: int
    steps: int  # of all slots
    prefills: int


@dataclass(frozen=True)
class Learned:
    """What a round's update is fed: replies, tokens and rows in which they are packed."""

    replies: int
    tokens: int
    rows: int
    some: TreeRow  # some of the rows [B, ...], for the pairs that attention computes


def laid_out(tree: Conversation, longest: int, rng: random.Random) -> Trie:
    """The trie of a tree whose messages have drawn lengths, replies `longest` tokens at most, and no text. Answers of
    probes are no replies in it."""
    scale = rng.uniform(1 - SPREAD, 1 + SPREAD)
    index = {node.id: place for place, node in enumerate(tree.nodes)}
    pieces: list[Piece] = []
    spans: list[ReplySpan] = []
    turns: list[int] = []
    paths: list[int] = []  # tokens up to the end of each node
    for place, node in enumerate(tree.nodes):
        above = -1 if node.parent is None else index[node.parent]
        replies = node.role == "assistant"
        drawn = round((REPLY_TOKENS if replies else USER_TOKENS) * scale * rng.uniform(1 - SPREAD, 1 + SPREAD))
        length = max(1, min(drawn, longest) if replies else drawn)
        pieces.append(Piece(above, (0,) * length))
        turns.append((turns[above] if above >= 0 else 0) + replies)
        paths.append((paths[above] if above >= 0 else 0) + length)
        if replies and not node.is_probe:
            spans.append(ReplySpan(place, place, turns[place], group=above))
    return Trie(pieces, spans, sum(paths[span.piece] for span in spans), 0)


def sampled(trees: Sequence[Conversation], tries: Sequence[Trie], rounds: Rounds, slots: int, chunks: int) -> Sampled:
    """What sampling some trees takes of an engine of that many slots, whose full prefill has that many chunks; a prompt
    is one chunk, as all of it but the user's message is in the pages.

    In every turn of a batch all replies that are due are sampled before anything else happens.
    """
    at_once, steps, prefills = 0, 0, 0
    for start in range(0, len(trees), rounds.batch):
        due, prompts = Counter[int](), set[tuple[int, int, int]]()
        for number, trie in enumerate(tries[start : start + rounds.batch]):
            due.update(span.turn for span in trie.replies)
            prompts |= {(span.turn, number, span.group) for span in trie.replies}
        by_turn = Counter(turn for turn, *_ in prompts)
        at_once = max(at_once, *due.values())
        steps += sum(-(-count // slots) * rounds.max_tokens for count in due.values())
        prefills += sum(-(-count // chunks) for count in by_turn.values())
    lengths = [len(trie.pieces[span.piece].tokens) for trie in tries for span in trie.replies]
    return Sampled(len(lengths), sum(lengths), at_once, steps, prefills)


def learned(trees: Sequence[Conversation], tries: Sequence[Trie], capacity: Capacity, chooses: Chooses) -> Learned:
    """What an objective that `chooses` these replies learns from, packed as a round packs it. InputError if that is
    nothing, or if a tree does not fit a row."""
    parts: list[TreeRow] = []
    for number, (tree, trie) in enumerate(zip(trees, tries, strict=True)):
        for part in fragments(tree, trie, capacity, number):
            known = part.replace(hinted_log_prob=np.zeros_like(part.hinted_log_prob))  # as a round computes them
            parts.append(pruned(known, chooses(known)))
    parts = [part for part in parts if part.target.size]
    if not parts:
        raise InputError(
            "config.online: its objective learns from no reply of these trees; raise config.online.trees, or "
            "config.online.rollout.siblings or share"
        )
    sizes = np.array([part.sizes for part in parts], np.int64)
    rows = best_fit(sizes, capacity)
    some = rows[:: -(-len(rows) // MEASURED_ROWS)]
    packed = stack([pack([parts[index] for index in row], capacity) for row in some])
    return Learned(int(sizes[:, 2].sum()), int(sizes[:, 0].sum()), len(rows), packed)
