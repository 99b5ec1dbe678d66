"""The radix tree of pages: which tokens the cache holds, and in which of its pages.

A page is a run of at most P consecutive tokens; its parent holds the tokens before them. So a path from the root is a
sequence of tokens, and a conversation's turns, siblings and samples share the pages of their trunk. Children of a page
are sorted by their tokens: what shares the longest beginning with a given sequence is then one of the two neighbours of
its place, and finding a prompt costs its length, whatever else is held.

This is the host's bookkeeping; the keys and values lie on the devices (`decode/cache.py`).
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

SCRATCH = 0  # the page that padding is written to; no tokens are ever read from it


@dataclass(eq=False)
class Page:
    """Some tokens of a sequence, and the page of the cache that is theirs.

    `users` are the sequences under way that go through it. A page is `ready` once the program that computes its keys
    and values has been started. Only a full page has children.
    """

    number: int
    parent: Page | None
    tokens: tuple[int, ...] = ()
    ready: bool = True
    users: int = 0
    children: list[Page] = field(default_factory=list)
    keys: list[tuple[int, ...]] = field(default_factory=list)  # the children's tokens, sorted

    def attach(self, child: Page) -> None:
        """Put `child` among the children."""
        place = bisect.bisect_left(self.keys, child.tokens)
        self.keys.insert(place, child.tokens)
        self.children.insert(place, child)

    def detach(self, child: Page) -> None:
        """Take `child` from among the children."""
        place = bisect.bisect_left(self.keys, child.tokens)
        while self.children[place] is not child:  # equal tokens may be there twice
            place += 1
        del self.keys[place], self.children[place]

    def nearest(self, tokens: tuple[int, ...]) -> tuple[Page | None, int]:
        """The child that begins as `tokens` do for longest, and the number of tokens that both begin with."""
        place = bisect.bisect_left(self.keys, tokens)
        best: tuple[Page | None, int] = (None, 0)
        for child in self.children[max(place - 1, 0) : place + 1]:
            common = common_prefix(child.tokens, tokens)
            if common > best[1]:
                best = child, common
        return best


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens that both sequences begin with."""
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return number
    return min(len(one), len(other))


@dataclass
class Found:
    """What the cache holds of a sequence: full pages, and perhaps the beginning of one more."""

    full: list[Page]
    partial: Page | None = None
    common: int = 0  # tokens of `partial` that the sequence has too

    @property
    def pages(self) -> list[Page]:
        return self.full if self.partial is None else [*self.full, self.partial]


class PageTree:
    """`pages` pages of `size` tokens, scratch page included, as a radix tree.

    A page without users stays in the tree until its place is needed, the one that was left longest ago first. A
    sequence that is let go leaves its last page first, so the oldest page is never the parent of another.
    """

    def __init__(self, pages: int, size: int) -> None:
        self.size = size
        self._root = Page(SCRATCH, None)
        self._free = list(range(pages - 1, SCRATCH, -1))
        self._unused: OrderedDict[int, Page] = OrderedDict()  # by number, the one left longest ago first
        self.evicted = 0

    @property
    def available(self) -> int:
        """Pages that are free or have no user."""
        return len(self._free) + len(self._unused)

    @property
    def unused(self) -> int:
        """Pages that have tokens and no user."""
        return len(self._unused)

    @property
    def held(self) -> int:
        """Pages that have tokens."""
        return sum(1 for _ in self._walk())

    def find(self, tokens: Sequence[int]) -> Found:
        """The longest beginning of `tokens` that is in the tree."""
        found, page = Found([]), self._root
        for start in range(0, len(tokens), self.size):
            part = tuple(tokens[start : start + self.size])
            child, common = page.nearest(part)
            if child is None or common < self.size:
                found.partial, found.common = child, common
                break
            found.full.append(child)
            page = child
        return found

    def use(self, page: Page) -> None:
        """Count one more user."""
        page.users += 1
        self._unused.pop(page.number, None)

    def leave(self, path: Sequence[Page]) -> None:
        """Let a sequence's pages go, each counted by `use` or `new` before."""
        for page in reversed(path):
            page.users -= 1
            if page.users == 0:
                if page.tokens and page.ready:
                    self._unused[page.number] = page
                else:
                    self._drop(page)

    def new(self, parent: Page | None) -> Page:
        """A page with one user and no tokens behind `parent` (None: at the root). The caller has made sure that one is
        available."""
        if not self._free:
            _, oldest = self._unused.popitem(last=False)
            assert not oldest.children, "the page left longest ago has no children"
            self._drop(oldest)
            self.evicted += 1
        return Page(self._free.pop(), parent or self._root, users=1)

    def enter(self, page: Page, tokens: Sequence[int], ready: bool = True) -> Page:
        """Enter `tokens` as those of `page`, which has one user, and return the page that has them now.

        If the tree has a page with just these tokens there already, a full page gives way to it, and the beginning of
        one stays out of the tree until it has more tokens.
        """
        parent, key = page.parent, tuple(tokens)
        assert parent is not None
        if page.tokens == key:
            page.ready = ready
            return page
        if page.tokens:
            parent.detach(page)
            page.tokens = ()
        other, common = parent.nearest(key)
        if other is not None and common == len(key) == len(other.tokens) and other.ready:
            if len(key) < self.size:
                return page
            self.use(other)
            self.leave([page])
            return other
        page.tokens, page.ready = key, ready
        parent.attach(page)
        return page

    def clear(self) -> None:
        """Forget all tokens; there may be no user."""
        while self._unused:
            self._drop(self._unused.popitem(last=False)[1])

    def _drop(self, page: Page) -> None:
        if page.tokens:
            assert page.parent is not None
            page.parent.detach(page)
            page.tokens = ()
        self._free.append(page.number)

    def _walk(self) -> list[Page]:
        found = list(self._root.children)
        for page in found:
            found.extend(page.children)
        return found
