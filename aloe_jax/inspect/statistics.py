"""The conversations of a data set in numbers: lengths, turns, siblings, margins, cuts, sharing, near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from etils import epath
from pydantic import TypeAdapter, ValidationError

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.inspect.distribution import Distribution, distribution
from aloe_jax.inspect.near_duplicates import NearDuplicates

if TYPE_CHECKING:  # the report reads statistics without JAX
    from aloe_jax.tree.row import TreeRow
    from aloe_jax.tree.schema import Conversation
    from aloe_jax.tree.trie import Trie

STATISTICS = "statistics.json"  # written by the stage `dataset` for the report; no later stage depends on it
GROUPS = 20  # groups of near-duplicates whose ids are kept
FRACTIONS = ("margin of a pair", "sharing factor")  # figures that are no whole numbers


@dataclass(frozen=True)
class Statistics:
    """What training makes of all conversations together.

    Attributes:
        good: number of replies with a good label of their own; `bad` those with a bad one.
        tree_tokens: tokens of the trees, which training computes; `path_tokens` those of one sequence per reply.
        trained_tokens: tokens with a weight in supervised fine-tuning; `untrained` conversations have none.
        max_path: maximum tokens of a path; `cut_paths` replies have a longer one, and `turns_cut` turns are cut from
            these.
        alike: number of conversations that are nearly the same as another one; `groups` has their ids by group, the
            largest GROUPS groups.
        distributions: those of the figures that there are.
    """

    conversations: int
    replies: int
    pairs: int
    good: int
    bad: int
    tree_tokens: int
    path_tokens: int
    trained_tokens: int
    untrained: int
    max_path: int
    cut_paths: int
    turns_cut: int
    alike: int
    groups: tuple[tuple[str, ...], ...]
    distributions: tuple[Distribution, ...]

    @property
    def sharing(self) -> float:
        """The ratio of path tokens to tree tokens."""
        return self.path_tokens / max(1, self.tree_tokens)

    @property
    def trained_share(self) -> float:
        """The share of the trees' tokens with a weight in supervised fine-tuning."""
        return self.trained_tokens / max(1, self.tree_tokens)


@dataclass
class StatisticsOf:
    """Counts conversations one by one; `max_path` is the maximum number of tokens of a path."""

    max_path: int
    _sums: Counter[str] = field(default_factory=Counter)
    _values: dict[str, list[float]] = field(default_factory=dict)
    _duplicates: NearDuplicates = field(default_factory=NearDuplicates)

    def add(self, tree: Conversation, trie: Trie, rows: Sequence[TreeRow]) -> None:
        """Count a conversation with its trie under `max_path`, and the fragments of rows made of it."""
        ends: list[int] = []  # tokens from the root to the end of each piece
        for piece in trie.pieces:
            ends.append(len(piece.tokens) + (ends[piece.parent] if piece.parent >= 0 else 0))
        trained = sum(int(np.count_nonzero(row.weight)) for row in rows)
        labels = [node.label for node in tree.nodes]
        replies = [span for span in trie.replies if span.turn]  # no probes
        pairs = [margin for row in rows for margin in row.pair_margin.tolist()]
        self._sums.update(
            conversations=1,
            replies=len(replies),
            pairs=len(pairs),
            good=labels.count(True),
            bad=labels.count(False),
            tree_tokens=trie.tree_tokens,
            path_tokens=trie.path_tokens,
            trained_tokens=trained,
            untrained=int(not trained),
            cut_paths=sum(bool(span.turns_cut) for span in trie.replies),
            turns_cut=trie.turns_cut,
        )
        siblings = Counter(span.group for span in replies)
        self._note("tokens of a reply", (len(trie.pieces[span.piece].tokens) for span in replies))
        self._note("tokens of the longest path", [max((ends[span.piece] for span in trie.replies), default=0)])
        self._note("turns of a conversation", [max((span.turn for span in trie.replies), default=0)])
        self._note("replies to a message", siblings.values())
        self._note("margin of a pair", pairs)
        self._note("turns cut from a path", (span.turns_cut for span in trie.replies if span.turns_cut))
        self._note("sharing factor", [trie.sharing])
        self._duplicates.add(tree.id, (node.text for node in tree.dialogue if node.role != "system"))

    def _note(self, name: str, values: Iterable[float]) -> None:
        self._values.setdefault(name, []).extend(values)

    def read(self) -> Statistics:
        """The statistics of the conversations counted so far."""
        groups, sums = self._duplicates.groups(), self._sums
        spread = [distribution(name, values, name not in FRACTIONS) for name, values in self._values.items()]
        return Statistics(
            conversations=sums["conversations"],
            replies=sums["replies"],
            pairs=sums["pairs"],
            good=sums["good"],
            bad=sums["bad"],
            tree_tokens=sums["tree_tokens"],
            path_tokens=sums["path_tokens"],
            trained_tokens=sums["trained_tokens"],
            untrained=sums["untrained"],
            max_path=self.max_path,
            cut_paths=sums["cut_paths"],
            turns_cut=sums["turns_cut"],
            alike=sum(map(len, groups)),
            groups=groups[:GROUPS],
            distributions=tuple(each for each in spread if each is not None),
        )


def read_statistics(path: epath.PathLike) -> Statistics:
    """The statistics that the stage `dataset` has written. InputError for a broken file."""
    try:
        return TypeAdapter(Statistics).validate_json(files.read_text(path))
    except ValidationError as error:
        raise InputError(
            f"{path}: not the statistics of a data set ({error.error_count()} errors); delete it, and the report is "
            "written without it"
        ) from None
