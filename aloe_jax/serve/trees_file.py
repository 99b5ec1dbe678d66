"""A `trees.jsonl` that conversations are added to one at a time: by the page of `aloe serve` and by `aloe chat`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, dump, parse, read_trees


class TreesFile:
    """Adds conversations to the file `path`, which may be missing. One whose id the file has takes that one's place, so
    that a conversation can be saved again when it has grown. A kill loses at most the conversation that is being saved.

    Raises InputError if the file holds anything but conversation trees.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(files.output_file(path))
        self._lock = threading.Lock()
        files.repair_lines(self.path)
        self._ids = {tree.id for tree in read_trees(self.path)} if self.path.exists() else set()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, tree: Conversation) -> bool:
        """Add `tree` or put it in its earlier version's place, which is what the result says. Raises ResumableError if
        the file cannot be written."""
        with self._lock:
            earlier = tree.id in self._ids and self.path.exists()
            if earlier:
                files.write_lines(self.path, self._with(tree))
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                files.repair_lines(self.path)
                files.append_line(self.path, dump(tree))
            self._ids.add(tree.id)
        return earlier

    def _with(self, tree: Conversation) -> Iterator[str]:
        """The lines of the file with `tree` in the place of its earlier version."""
        for number, line in files.lines(self.path):
            found = files.parse_json(line, f"{self.path} line {number}")["id"]
            yield dump(tree) if found == tree.id else line


def conversation(text: str) -> Conversation:
    """The conversation in the JSON `text`. Raises InputError with the first field that is wrong, and for one without a
    reply, of which nothing can be learned."""
    tree = parse(Conversation, text, "the conversation")
    if not tree.replies():
        raise InputError("the conversation has no reply; expected at least one assistant node")
    return tree
