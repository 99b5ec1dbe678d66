"""From rolled-out trees to the global batch of an update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aloe_jax.data.pipeline import micro_batches_of
from aloe_jax.models.config import ModelConfig
from aloe_jax.train.work import Work, sum_of, work_of
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.hinted import with_hints
from aloe_jax.tree.pack import best_fit, empty_row, pack, stack
from aloe_jax.tree.prune import Chooses, pruned
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import build_trie

# Log-probabilities of a reply's tokens given a hint, by the places of its tree and, in that, of its node.
GivenHints = Mapping[tuple[int, int], Float[np.ndarray, " n"]]


@dataclass(frozen=True)
class Packing:
    """How trees are laid out in rows: the chat format, the capacity of a row, the maximum tokens of a path, the model,
    and the replies that the objective trains on."""

    chat: ChatFormat
    capacity: Capacity
    longest: int
    model: ModelConfig
    chooses: Chooses

    def rows(self, trees: Sequence[Conversation], hinted: GivenHints | None = None) -> tuple[list[TreeRow], Work]:
        """The trained part of every tree in as few rows as best-fit finds, and the work of a step on them; `hinted` is
        what is known given hints. Raises InputError for a tree that does not fit a row and for token ids that the
        model does not have."""
        parts = [part for number, tree in enumerate(trees) for part in self._parts(number, tree, hinted or {})]
        return self.laid_out(parts), sum_of([work_of(part, self.model) for part in parts])

    def laid_out(self, parts: Sequence[TreeRow]) -> list[TreeRow]:
        """Fragments in as few rows as best-fit finds."""
        sizes = np.array([part.sizes for part in parts], np.int64).reshape(-1, 4)
        return [pack([parts[index] for index in row], self.capacity) for row in best_fit(sizes, self.capacity)]

    def _parts(self, number: int, tree: Conversation, hinted: GivenHints) -> list[TreeRow]:
        found = fragments(tree, build_trie(tree, self.chat, self.longest), self.capacity, number)
        ids = (int(part.tokens.max()) for part in found)
        self.chat.tokenizer.check_ids(ids, self.model.vocab, f"conversation '{tree.id}'")
        told = [with_hints(part, hinted) if hinted else part for part in found]
        trained = [pruned(part, self.chooses(part)) for part in told]
        return [part for part in trained if part.target.size]


def batched(rows: Sequence[TreeRow], size: int, capacity: Capacity) -> tuple[TreeRow, int]:
    """Rows as micro-batches [N, B, ...] of `size` B rows each, and how many of the N are not empty."""
    count, used = micro_batches_of(len(rows), size)
    filled = [*rows, *[empty_row(capacity)] * (count * size - len(rows))]
    return stack([stack(filled[start : start + size]) for start in range(0, len(filled), size)]), used


def gap(rows: TreeRow, trees: Sequence[Conversation]) -> tuple[float, float]:
    """Mean and largest difference of a token's log-probability in nats between the engine that sampled it and the
    trainer's pass, over the replies in `rows` [N, B, ...] of numpy arrays, whose `old_log_prob` is filled in. Tokens
    that were not sampled do not count."""
    off = [np.zeros(0)]
    for at in np.ndindex(rows.tokens.shape[:2]):
        for place in np.flatnonzero(rows.conversation[at] >= 0).tolist():
            node = trees[int(rows.conversation[at][place])].nodes[int(rows.node[at][place])]
            old = rows.old_log_prob[at][rows.reply[at] == place]
            if node.logprobs is not None and len(node.logprobs) == len(old):
                off.append(np.abs(np.asarray(node.logprobs) - old))
    every = np.concatenate(off)
    return (float(every.mean()), float(every.max())) if every.size else (0.0, 0.0)
