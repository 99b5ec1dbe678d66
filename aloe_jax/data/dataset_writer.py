"""Writes the conversations of every source as row fragments on disk, counted by source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.data.builder import IDS, write_dataset
from aloe_jax.data.mixture import Source, read_source
from aloe_jax.errors import InputError
from aloe_jax.inspect.statistics import STATISTICS, StatisticsOf
from aloe_jax.run.manifest import Values
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.prune import advantaged
from aloe_jax.tree.row import Capacity, TreeRow
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.supervision import supervision
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import Trie, build_trie

SHARING_WARNING = 4.0  # sharing factor below which the display says why


@dataclass
class Counts:
    """What one source, or all of them, contributed to the dataset.

    Conversations without trained tokens are `untrained`. Replies with token ids of another tokenizer are `retokenised`
    from their text. `equal_pairs` are left out, since their replies have the same tokens. `labelled` replies have a
    label of their own.
    """

    conversations: int = 0
    replies: int = 0
    pairs: int = 0
    tree_tokens: int = 0
    path_tokens: int = 0
    turns_cut: int = 0
    trained_tokens: int = 0
    untrained: int = 0
    retokenised: int = 0
    equal_pairs: int = 0
    labelled: int = 0

    def add(self, other: Counts) -> None:
        """Add the counts of another source."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def record(self) -> dict[str, float]:
        """The counts for the manifest, with the ratio of path tokens to tree tokens and the share of trained tokens."""
        tokens = max(1, self.tree_tokens)
        sharing, share = self.path_tokens / tokens, self.trained_tokens / tokens
        return vars(self) | {"sharing": round(sharing, 3), "trained_share": round(share, 4)}

    def line(self, name: str) -> str:
        """The counts as a line for the display."""
        found = self.record()
        parts = [
            f"{self.conversations:,} conversations, {self.tree_tokens:,} tokens, {self.trained_tokens:,} of them "
            f"({found['trained_share']:.1%}) trained on in SFT, sharing factor {found['sharing']:.2f}"
        ]
        if found["sharing"] < SHARING_WARNING:
            parts[0] += f" (below {SHARING_WARNING:g}: short or unbranched conversations)"
        if self.labelled:
            parts.append(f"{self.labelled:,} replies with a label")
        if self.untrained:
            parts.append(f"{self.untrained:,} conversations have nothing to train on in SFT")
        if self.turns_cut:
            parts.append(f"{self.turns_cut:,} turns cut from paths that are too long")
        if self.retokenised:
            parts.append(f"{self.retokenised:,} replies of another tokenizer are taken by their text")
        if self.equal_pairs:
            parts.append(f"{self.equal_pairs:,} pairs left out, whose replies have the same tokens")
        return f"{name}: {'; '.join(parts)}"


@dataclass
class DatasetWriter:
    """Writes conversations as fragments; `counts` is filled meanwhile.

    Attributes:
        longest: maximum tokens of a path; whole turns are cut from the left of longer ones.
        vocab: number of token ids of the model.
        progress: called after each conversation with (conversations done, conversations in all).
        notice: called with a sentence about keys of records that are not read.
    """

    sources: Sequence[Source]
    own: epath.PathLike  # the run's trees
    chat: ChatFormat
    capacity: Capacity
    longest: int
    vocab: int
    progress: Callable[[int, int], None]
    notice: Callable[[str], None] = lambda sentence: None
    counts: dict[str, Counts] = field(default_factory=dict)

    def write(self, directory: epath.Path) -> Values:
        """Write the dataset to `directory`, replacing what an interrupted call left; returns the manifest's counts.

        Raises InputError for a broken source, a conversation that does not fit a row, token ids outside the model's
        vocabulary, and if there is nothing to train on with any objective.
        """
        for old in directory.glob("aloe_trees*"):
            old.rmtree()
        ids = (files.json_line({"id": tree.id, "source": source.name}) for _, source, tree in self._read(self.notice))
        total = files.write_lines(directory / IDS, ids)
        statistics = StatisticsOf(self.longest)
        rows = self._fragments(total, statistics)
        written = write_dataset(rows, directory, [source.name for source in self.sources])
        files.write_json(directory / STATISTICS, dataclasses.asdict(statistics.read()))
        summed = Counts()
        for counts in self.counts.values():
            summed.add(counts)
        by_source = {name: counts.record() for name, counts in self.counts.items()}
        return summed.record() | {"fragments": written, "sources": by_source}

    def _read(
        self, notice: Callable[[str], None] = lambda sentence: None
    ) -> Iterator[tuple[int, Source, Conversation]]:
        """All conversations with their sources. They are read twice, once for their ids and number and once for their
        rows, since a large file's do not fit into memory."""
        for origin, source in enumerate(self.sources):
            for tree in read_source(source, self.own, notice):
                yield origin, source, tree

    def _fragments(self, total: int, statistics: StatisticsOf) -> Iterator[tuple[int, TreeRow]]:
        useful = False
        for number, (origin, source, tree) in enumerate(self._read()):
            trie = build_trie(tree, self.chat, self.longest)
            parts = fragments(tree, trie, self.capacity, number)
            ids = (int(part.tokens.max()) for part in parts)
            self.chat.tokenizer.check_ids(ids, self.vocab, f"conversation '{tree.id}'")
            self.counts.setdefault(source.name, Counts()).add(self._count(tree, trie, parts))
            statistics.add(tree, trie, parts)
            self.progress(number + 1, total)
            for part in parts:
                scale = np.float32(source.loss_weight)
                useful = useful or bool(part.weight.any() or part.label.any() or advantaged(part).any())
                yield origin, part.replace(weight=part.weight * scale, pair_weight=part.pair_weight * scale)
        if not useful:
            raise InputError("no reply of the conversations is trained on: none is preferred; see the stage's counts")

    def _count(self, tree: Conversation, trie: Trie, parts: Sequence[TreeRow]) -> Counts:
        trained = sum(int(np.count_nonzero(part.weight)) for part in parts)
        pairs = sum(len(part.pairs) for part in parts)
        known = self.chat.tokenizer.hash
        return Counts(
            conversations=1,
            replies=sum(span.turn > 0 for span in trie.replies),
            pairs=pairs,
            tree_tokens=trie.tree_tokens,
            path_tokens=trie.path_tokens,
            turns_cut=trie.turns_cut,
            trained_tokens=trained,
            untrained=int(not trained),
            retokenised=sum(bool(node.token_ids) and node.tokenizer != known for node in tree.replies()),
            equal_pairs=len(supervision(tree).pairs) - pairs,
            labelled=sum(node.label is not None for node in tree.replies()),
        )
