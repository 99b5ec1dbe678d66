"""What became of the records of a conversion: findings and a table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from aloe_jax.errors import InputError
from aloe_jax.formats.keys import Unread
from aloe_jax.formats.repair import Repairs
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.template import ChatFormat
from aloe_jax.tree.trie import build_trie

# "reference" (the name in the report) is the format of the conversations that the paper's code writes.
Format = Literal["reference", "pool", "messages", "preference", "trees"]
_SHOWN = 10  # lines and reasons that are enumerated


class TreeCount(TypedDict):
    """Sizes of all trees together."""

    turns: int
    replies: int
    pairs: int
    ties: int
    good: int
    bad: int


class Merged(TypedDict, total=False):
    """Findings about records that were merged into trees."""

    sharing_messages: float
    sharing_characters: float
    equal_pairs: int
    contradicted: int
    unread: Mapping[str, Unread]


@dataclass(frozen=True)
class Tokens:
    """Tokens of the trees and of their replies' paths under a model's tokenizer and template; `refused` has the
    template's first refusal and the number of trees that it refuses."""

    tree: int
    paths: int
    refused: tuple[str, int] | None


def tree_count(trees: Sequence[Conversation]) -> TreeCount:
    """User messages, replies, pairs (`ties` of which have the margin 0) and labelled replies of the trees."""
    nodes = [node for tree in trees for node in tree.dialogue]
    roles, labels = [node.role for node in nodes], [node.label for node in nodes]
    margins = [pair.margin for tree in trees for pair in tree.preferences]
    return TreeCount(
        turns=roles.count("user"),
        replies=roles.count("assistant"),
        pairs=len(margins),
        ties=margins.count(0.0),
        good=labels.count(True),
        bad=labels.count(False),
    )


def token_count(trees: Sequence[Conversation], chat: ChatFormat) -> Tokens:
    """The tokens of the trees, without those that the template refuses."""
    tokens = paths = refused = 0
    first = ""
    for tree in trees:
        try:
            trie = build_trie(tree, chat)
        except InputError as error:
            first, refused = first or str(error), refused + 1
        else:
            tokens, paths = tokens + trie.tree_tokens, paths + trie.path_tokens
    return Tokens(tokens, paths, (first, refused) if refused else None)


@dataclass(frozen=True)
class ConversionReport:
    """The records that a conversion read, wrote, kept, repaired and left out.

    Where records were merged, `sharing_messages` and `sharing_characters` are the ratios of their messages and
    characters to those of the trees; `equal_pairs` counts pairs with two equal sides, `contradicted` replies that are
    labelled both good and bad. `unread` has the keys that are not read, by name. `silent` is None, or, where roles were
    swapped, the number of conversations without a user's message.
    """

    format: Format
    read: int
    written: int
    kept: int
    repairs: Repairs = field(default_factory=Repairs)
    turns: int | None = None
    replies: int = 0
    pairs: int = 0
    ties: int = 0
    good: int = 0
    bad: int = 0
    sharing_messages: float | None = None
    sharing_characters: float | None = None
    equal_pairs: int = 0
    contradicted: int = 0
    unread: Mapping[str, Unread] = field(default_factory=dict)
    tokens: Tokens | None = None
    silent: int | None = None

    def with_tokens(self, tokens: Tokens) -> ConversionReport:
        """The same report with the number of tokens."""
        return dataclasses.replace(self, tokens=tokens)

    def lines(self, dry: bool = False) -> list[str]:
        """The report as text, one finding per line, and the table; `dry` if nothing was written."""
        found = [f"read {self.read} {self.format} records, {'would write' if dry else 'wrote'} {self.written}"]
        if self.silent is not None:
            found.append("roles are swapped: the user's turns are the replies that are trained on")
        if self.silent:
            found.append(f"left out: no user speaks: {self.silent}")
        if self.sharing_messages is not None:
            found.append(
                f"sharing factor {self.sharing_messages:.2f} in messages, {self.sharing_characters:.2f} in characters"
            )
        if self.equal_pairs:
            found.append(f"{self.equal_pairs} pairs left out: chosen and rejected are the same")
        if self.ties:
            found.append(f"{self.ties} pairs are ties (margin 0), which nothing is trained on")
        if self.contradicted:
            found.append(f"{self.contradicted} replies have no label: some records call them good, others bad")
        for kind, lines in sorted(self.repairs.repaired.items()):
            found.append(f"repaired: {kind}: {len(lines)} (lines {_enumerated(lines)})")
        for reason, lines in self._refused():
            found.append(f"left out: {reason}: {len(lines)} (lines {_enumerated(lines)})")
        if self.tokens is not None and self.tokens.refused is not None:
            reason, count = self.tokens.refused
            found.append(f"the template refuses {count} of the trees, the first because {reason}")
        return [*found, *self.warnings(), "", *self._table()]

    def warnings(self) -> list[str]:
        """A sentence if there are keys that are not read."""
        names = [
            f"{name} ({'text, ' * one.text}{one.records} times, first: {one.first})" for name, one in self._unread()
        ]
        return [f"not read: {', '.join(names)}"] if names else []

    def _unread(self) -> list[tuple[str, Unread]]:
        return sorted(self.unread.items(), key=lambda item: (not item[1].text, -item[1].records, item[0]))

    def _refused(self) -> list[tuple[str, list[int]]]:
        """The lines left out by reason, reasons that differ in numbers alone being one; most frequent first."""
        reasons: dict[str, tuple[str, list[int]]] = {}
        for line, reason in self.repairs.dropped:
            reasons.setdefault(re.sub(r"\d+", "0", reason), (reason, []))[1].append(line)
        return sorted(reasons.values(), key=lambda found: (-len(found[1]), found[1][0]))

    def _table(self) -> list[str]:
        repaired = {line for lines in self.repairs.repaired.values() for line in lines}
        rows = [("records read", f"{self.read:,}"), ("  kept", f"{self.kept:,}"), ("  repaired", f"{len(repaired):,}")]
        refused = self._refused()
        rows.append(("  refused", f"{len(self.repairs.dropped):,}"))
        rows += [("    " + reason[:60], f"{len(lines):,} (first: {lines[0]})") for reason, lines in refused[:_SHOWN]]
        if len(refused) > _SHOWN:
            rows.append((f"    {len(refused) - _SHOWN} other reasons", f"{sum(len(x) for _, x in refused[_SHOWN:]):,}"))
        rows.append(("columns not read", ", ".join(name for name, _ in self._unread()) or "none"))
        if self.turns is not None:
            rows += [("trees", f"{self.written:,}"), ("turns", f"{self.turns:,}"), ("replies", f"{self.replies:,}")]
            rows.append(("pairs", f"{self.pairs:,}"))
            if self.good or self.bad:
                rows.append(("labelled replies", f"{self.good:,} good, {self.bad:,} bad"))
        if self.sharing_messages is not None:
            rows.append(("sharing factor (messages)", f"{self.sharing_messages:.2f}"))
        if self.tokens is not None:
            rows.append(("tokens", f"{self.tokens.tree:,}"))
            rows.append(("sharing factor (tokens)", f"{self.tokens.paths / max(1, self.tokens.tree):.2f}"))
        width = max(len(name) for name, _ in rows)
        return [f"{name:<{width}}  {value}" for name, value in rows]


def _enumerated(lines: list[int]) -> str:
    """The first line numbers as text."""
    shown = ", ".join(map(str, lines[:_SHOWN]))
    return f"{shown}, ..." if len(lines) > _SHOWN else shown
