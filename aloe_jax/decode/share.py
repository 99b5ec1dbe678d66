"""One share of an engine: the sequences under way in it, and their pages."""

from __future__ import annotations

from aloe_jax.decode.pages import Found, Page, PageTree
from aloe_jax.decode.plans import Shape
from aloe_jax.decode.sequence import Sequence


class Share:
    """The pages and sequences of one share. All pages that a sequence may come to need are promised to it when it is
    admitted, so it never has to stop for want of one."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.tree = PageTree(shape.pages, shape.page)
        self.running: list[Sequence] = []
        self._promised = 0

    @property
    def full(self) -> bool:
        """Whether all rows are taken."""
        return len(self.running) >= self.shape.rows

    def find(self, sequence: Sequence) -> Found | None:
        """What the pages hold of a prompt; None if it is worth waiting, since another sequence is about to run a chunk
        or more that both begin with. Scores are computed with the pages, so a scored prompt has to run as a whole."""
        if sequence.request.score:
            return Found([])
        found = self.tree.find(sequence.body)
        if any(not page.ready for page in found.full):
            return None
        if found.partial is not None and not found.partial.ready:
            if found.common >= self.shape.chunk:
                return None
            found.partial, found.common = None, 0
        return found

    def admit(self, sequence: Sequence, found: Found) -> list[tuple[int, int]] | None:
        """Start a sequence from what was found; the (source, target) of pages to copy first. None, and nothing is
        done, while too few pages are available."""
        size, body, partial = self.shape.page, sequence.body, found.partial
        goes_on = partial is not None and partial.users == 0 and found.common == len(partial.tokens)
        ran = len(found.full) * size + found.common
        total = -(-(len(body) + sequence.most) // size)
        needed = total - len(found.full) - goes_on
        unused = sum(page.users == 0 for page in found.pages)
        if self.tree.available - unused - self._promised < needed:
            return None
        copies: list[tuple[int, int]] = []
        for page in found.pages:
            self.tree.use(page)
        sequence.path, sequence.ran, sequence.promised = list(found.full), ran, needed
        self._promised += needed
        if partial is not None and goes_on:
            sequence.path.append(partial)
        elif partial is not None:
            copies.append((partial.number, self._grow(sequence).number))
            self.tree.leave([partial])
        # Entered before they are computed, so that others with the same beginning find them and wait.
        for number in range(len(found.full), -(-len(body) // size)):
            page = sequence.path[number] if number < len(sequence.path) else self._grow(sequence)
            sequence.path[number] = page
            if not sequence.request.score:
                sequence.path[number] = self.tree.enter(page, body[number * size : (number + 1) * size], ready=False)
        self._settle(sequence, sequence.path[len(found.full) :])
        self.running.append(sequence)
        return copies

    def prefilled(self, sequence: Sequence, count: int) -> None:
        """Note that the next `count` tokens of a prompt are being run."""
        first = sequence.ran // self.shape.page
        sequence.ran += count
        self._settle(sequence, sequence.path[first:])

    def reserve(self, sequence: Sequence, tokens: int) -> None:
        """Take the pages for the next `tokens` tokens."""
        while len(sequence.path) * self.shape.page < sequence.ran + tokens:
            self._grow(sequence)

    def decoded(self, sequence: Sequence, count: int) -> None:
        """Note that `count` more tokens were run; the reply has the tokens drawn from them."""
        size, first = self.shape.page, sequence.ran // self.shape.page
        sequence.ran += count
        if sequence.request.score:
            return
        for number in range(first, sequence.ran // size):
            tokens = sequence.tokens(number * size, (number + 1) * size)
            sequence.path[number] = self.tree.enter(sequence.path[number], tokens)
            if number + 1 < len(sequence.path):
                sequence.path[number + 1].parent = sequence.path[number]

    def release(self, sequence: Sequence) -> None:
        """Let a sequence go; its tokens stay while their pages are not needed, those of a scored one do not."""
        size, last = self.shape.page, sequence.ran // self.shape.page
        entered = sequence.decodes and not sequence.request.score
        if entered and sequence.ran % size and last < len(sequence.path):
            self.tree.enter(sequence.path[last], sequence.tokens(last * size, sequence.ran))
        self.tree.leave(sequence.path)
        self._promised -= sequence.promised
        self.running.remove(sequence)

    def table(self, sequence: Sequence) -> list[int]:
        """The numbers of its pages."""
        return [page.number for page in sequence.path]

    def _grow(self, sequence: Sequence) -> Page:
        page = self.tree.new(sequence.path[-1] if sequence.path else None)
        sequence.path.append(page)
        sequence.promised -= 1
        self._promised -= 1
        return page

    def _settle(self, sequence: Sequence, pages: list[Page]) -> None:
        """Mark the pages whose prompt tokens are all run or being run."""
        size, first = self.shape.page, len(sequence.path) - len(pages)
        for number, page in enumerate(pages, first):
            page.ready = page.ready or number * size + len(page.tokens) <= sequence.ran
