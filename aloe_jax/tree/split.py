"""Which replies of a conversation share a fragment, where one row cannot hold them all."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from aloe_jax.errors import InputError
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import Conversation
from aloe_jax.tree.trie import Trie


@dataclass
class Part:
    """The replies of one fragment (indices into `trie.replies`), the pieces of their paths, and the size of both."""

    trie: Trie
    pairs: Collection[tuple[int, int]]
    replies: list[int] = field(default_factory=list)
    pieces: set[int] = field(default_factory=set)
    need: tuple[int, ...] = (0, 0, 0, 0)

    def add(self, unit: Sequence[int], capacity: Capacity) -> bool:
        """Add the replies of `unit` if all four capacities allow; returns whether it did."""
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


def split(
    tree: Conversation, trie: Trie, capacity: Capacity, pairs: Collection[tuple[int, int]], order: Sequence[int]
) -> Iterator[Part]:
    """Parts of the conversation, one per fragment, filled in depth-first order so that replies share their trunk.

    Raises InputError if replies that must share a row do not fit in one: those compared by pairs or by advantages.
    """
    rank = {piece: position for position, piece in enumerate(order)}
    groups: dict[int, list[int]] = {}
    for reply, span in enumerate(trie.replies):
        groups.setdefault(span.group, []).append(reply)
    part = Part(trie, pairs)
    for siblings in sorted(groups.values(), key=lambda replies: rank[trie.replies[replies[0]].piece]):
        whole = Part(trie, pairs).add(siblings, capacity)
        for unit in [siblings] if whole else _compared(tree, trie, siblings, pairs):
            if part.add(unit, capacity):
                continue
            if part.replies:
                yield part
            part = Part(trie, pairs)
            if not part.add(unit, capacity):
                raise _too_large(tree, trie, unit, pairs, capacity)
    if part.replies:
        yield part


def _compared(
    tree: Conversation, trie: Trie, siblings: Sequence[int], pairs: Collection[tuple[int, int]]
) -> list[list[int]]:
    """The connected components of `siblings` under the pairs, those with an advantage being one; a reply without either
    is alone."""
    reply_of = {trie.replies[reply].node: reply for reply in siblings}
    advantaged = [node for node in reply_of if tree.nodes[node].advantage is not None]
    component = {reply: [reply] for reply in siblings}
    for chosen, rejected in itertools.chain(pairs, itertools.pairwise(advantaged)):
        if chosen in reply_of:
            joined, other = component[reply_of[chosen]], component[reply_of[rejected]]
            if joined is not other:
                joined += other
                component.update(dict.fromkeys(other, joined))
    return [sorted(replies) for replies in {id(replies): replies for replies in component.values()}.values()]


def _too_large(
    tree: Conversation, trie: Trie, unit: Sequence[int], pairs: Collection[tuple[int, int]], capacity: Capacity
) -> InputError:
    alone = Part(trie, pairs)
    alone.add(unit, Capacity(sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize))
    needs = zip(alone.need, dataclasses.asdict(capacity).items(), strict=True)
    over = [(need, name, room) for need, (name, room) in needs if need > room]
    lacking = ", ".join(f"{need} {name} where a row has {room}" for need, name, room in over)
    node = tree.nodes[trie.replies[unit[0]].node].id
    return InputError(
        f"conversation '{tree.id}' node '{node}' with its path and the replies it is compared with needs {lacking}; "
        f"raise {', '.join(f'config.dataset.row.{name}' for _, name, _ in over)}"
    )
