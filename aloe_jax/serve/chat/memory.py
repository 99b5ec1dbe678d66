"""The file of `aloe chat --memory`: what was learned about the user in earlier conversations."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aloe_jax import files
from aloe_jax.tree.probe import MAX_ITEM
from aloe_jax.tree.schema import Record, parse

HEAD = "What you learned about me in earlier conversations:"


class Remembered(Record):
    """Something learned: an id of a catalogue or a free sentence, the item as a sentence where a catalogue has one, and
    the user's words that were its evidence."""

    item: Annotated[str, Field(min_length=1, max_length=MAX_ITEM)]
    text: str = ""
    said: str = ""

    @property
    def sentence(self) -> str:
        """The item in words, on one line."""
        return " ".join((self.text or self.item).split())


class Memory(Record):
    """Content of the file."""

    version: Literal[1] = 1
    known: tuple[Remembered, ...] = ()


class MemoryFile:
    """What is known about the user, in the file `path`, which may be missing. It is read again before it is written, so
    that what was edited meanwhile stays, and is written atomically. Raises InputError for one that cannot be read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(files.output_file(path))
        self.known = self._read()

    def update(self, learned: Iterable[Remembered], struck: Collection[str]) -> None:
        """Add what was `learned` and is not there yet, and take out the items that were `struck`."""
        before = self._read()
        known = {each.item: each for each in before}
        for each in learned:
            known.setdefault(each.item, each)
        kept = tuple(each for each in known.values() if each.item not in struck)
        if kept != before or not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(self.path, Memory(known=kept).model_dump(mode="json"))
        self.known = kept

    def _read(self) -> tuple[Remembered, ...]:
        if not self.path.exists():
            return ()
        return parse(Memory, files.read_text(self.path), str(self.path), strict=False).known


def preface(known: Iterable[Remembered]) -> str:
    """What the model is told of earlier conversations, ahead of the first message; empty if nothing is known."""
    lines = [f"- {each.sentence}" for each in known]
    return "\n".join([HEAD, *lines]) if lines else ""
